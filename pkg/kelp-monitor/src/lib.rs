//! Watches one container: stdio, log, attach, exit record.
