//! Has the linker place the functions of kelp's usual work side by side: `link-order.txt`, which
//! tests/bench/order writes. Few pages of the program are then in use, and fewer have to be mapped.
//!
//! The program is stripped here too, so that names are the same with symbols and without.
//! Names that are not in the program are passed over, so that a list which has aged does no harm.

use std::env;
use std::path::Path;
use std::process::Command;

const ORDER: &str = "link-order.txt";
/// Set for tests/bench/order, which has to know functions by name.
const SYMBOLS: &str = "KELP_SYMBOLS";

fn main() {
    println!("cargo:rerun-if-changed={ORDER}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={SYMBOLS}");
    if env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return;
    }
    if env::var_os(SYMBOLS).is_none() {
        println!("cargo:rustc-link-arg-bins=-Wl,--strip-all");
    }
    if links_by_lld() {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-Wl,--symbol-ordering-file={directory}/{ORDER}");
        println!("cargo:rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    }
}

/// Whether the linker is the one that comes with rustc, and not another, which may not know the option.
fn links_by_lld() -> bool {
    let target = env::var("TARGET").unwrap_or_default();
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_chosen = flags.contains("linker") || flags.contains("-fuse-ld");
    // On this target it is the default (rustc 1.90).
    if target != "x86_64-unknown-linux-gnu" || is_chosen || env::var_os("RUSTC_LINKER").is_some() {
        return false;
    }
    let rustc = env::var_os("RUSTC").unwrap_or_default();
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout);
        let programs = Path::new(sysroot.trim()).join("lib/rustlib").join(target);
        programs.join("bin/gcc-ld/ld.lld").exists()
    })
}
