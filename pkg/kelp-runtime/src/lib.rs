//! From an OCI runtime specification to a process.
