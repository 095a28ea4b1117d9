//! kelp: picks the role from the name it is called by.
#![forbid(unsafe_code)]
// They panic where nobody reads or the disk is full; `cli::output` returns that as an error.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod hello;
mod oci;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if oci::is_name(&name) {
        return oci::main();
    }
    if kelp_quadlet::role::is_name(&name) {
        return kelp_quadlet::role::main(env!("CARGO_PKG_VERSION"));
    }
    if args.next().is_some_and(|first| first == "internal") {
        let rest: Vec<_> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
        if rest.first().is_some_and(|role| role == "hello") {
            return ExitCode::from(hello::run() as u8);
        }
        return ExitCode::from(kelp_engine::internal::run(&rest) as u8);
    }
    cli::main()
}
