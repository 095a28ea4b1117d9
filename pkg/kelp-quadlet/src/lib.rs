//! Quadlet.
mod check;
mod draft;
mod find;
mod finding;
mod generate;
mod install;
mod key;
mod kind;
mod quote;
pub mod role;
mod set;
mod shape;
mod suggest;
mod unit;

pub use check::{Knows, check};
pub use draft::Host;
pub use find::{DropIns, Environment, load, load_file, unit_name};
pub use finding::{Finding, Severity};
pub use generate::{Outcome, Service, generate};
pub use install::Link;
pub use key::{Form, Key, Take};
pub use set::{Kind, Set, Source};
pub use shape::Shape;
pub use unit::{Assignment, Fault, Place, Unit};
