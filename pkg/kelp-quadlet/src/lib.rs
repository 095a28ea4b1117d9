//! Quadlet: unit files of containers, pods, volumes, networks, images, builds, artifacts and Kubernetes YAML, and the
//! systemd services that they become (podman-systemd.unit(5) of podman 5.8).
//!
//! [`Environment`] says where files are looked for, [`load`] reads them and their drop-ins to a [`Set`],
//! [`generate`] makes the services, and [`check`] tells all that is wrong. [`role`] is the generator that systemd
//! calls, [`store`] what a person has installed, of [`bundle`]s.
//!
//! What each promises:
//! - A [`Unit`] knows the line of every assignment, and writes what was not changed as it was read.
//! - Keys stand in one table a kind ([`Kind::keys`]), from which the command line is made and the values are
//!   checked: a key can't be in one and not in the other. Its rows are in the order of the command line.
//! - A service is made only if nothing in its unit is an error. Who asks for something that can't be read as a
//!   boolean, a list of words or another unit, gets an error and not a service without it.
//! - What is wrong with one unit stops no other, and every [`Finding`] has a file and, where there is one, a line.
//!
//! How the services differ from those of podman's generator is told in ARCHITECTURE.md, "Quadlet".
//!
//! Sources: podman-systemd.unit(5), systemd.syntax(7), systemd.unit(5), systemd.service(5), systemd.generator(7),
//! and what podman's own generator makes of the same files.

pub mod bundle;
mod check;
mod draft;
mod find;
mod finding;
mod generate;
mod install;
mod key;
mod kind;
mod list;
mod quote;
pub mod role;
mod set;
mod shape;
pub mod store;
mod suggest;
mod unit;

pub use check::{Grammar, check};
pub use draft::{Argument, Host};
pub use find::{DropIns, Environment, load, load_file, unit_name};
pub use finding::{Finding, Severity};
pub use generate::{Outcome, Service, generate};
pub use install::Link;
pub use key::{Form, Key, Take};
pub use set::{Kind, Set, Source};
pub use shape::Shape;
pub use unit::{Assignment, Fault, Place, Unit};
