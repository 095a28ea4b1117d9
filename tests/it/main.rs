//! The command line, from outside: the release binary, an ordinary user, images from a registry.
//!
//! [`env::Env`] is a user's world of its own, and fails its test if anything of it is left: a
//! process, a file in the runtime directory, a container in the store. [`image`] makes images and
//! [`registry`] serves them; the program `kelp-probe` tells what a process in a container sees.
#![allow(clippy::unwrap_used)]

mod additional;
mod archive;
mod buildah;
mod cgroups;
mod check;
mod chunked;
mod commit;
mod conmon;
mod containerd;
mod containers_conf;
mod copied;
mod copy_race;
mod daily;
mod debian;
mod disk;
mod env;
mod exec;
mod exec_alone;
mod flags;
mod foreign;
mod from_podman;
mod full_disk;
mod hello;
mod http;
mod image;
mod image_story;
mod interrupt;
mod inventory;
mod joined_pids;
mod kelp;
mod kill;
mod layers;
mod leaks;
mod life;
mod lifecycle;
mod lists;
mod load;
mod mount;
mod network;
mod notify;
mod oci;
mod podman;
mod probe;
mod pull;
mod quadlet;
mod records;
mod registry;
mod removal;
mod reset;
mod run_exit;
mod run_process;
mod run_streams;
mod runtimes;
mod search;
mod security;
mod show;
mod siblings;
mod skip;
mod start_fails;
mod stats;
mod steps;
mod streams_stuck;
mod system;
mod terminal;
mod transports;
mod trust;
mod unshare;
mod update;
mod userns;
mod vm;
mod volumes_shared;
