//! Rules, scopes, names, and signatures of both kinds from key to decision.

mod decision;
mod edit;
mod identity;
mod policy;
mod registries_d;
