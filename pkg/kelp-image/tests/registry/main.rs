//! Pulls from registries, and pushes to them: Debian's docker-registry, and servers that misbehave on purpose.

#![allow(clippy::unwrap_used, clippy::format_push_string)]

mod artifacts;
mod authentication;
mod certificates;
mod chunked;
mod distribution;
mod faults;
mod fixture;
mod http;
mod image;
mod mirrors;
mod offers;
mod proxies;
mod pulls;
mod pushes;
mod receiving;
mod referrers;
mod scripted;
