//! System calls: one thin wrapper each, no policy.
