//! Networks: pasta, ports, hosts and name resolution files.
