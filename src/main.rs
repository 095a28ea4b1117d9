//! kelp: picks the role from the name it is called by.
fn main() {}
