//! The one API that every front end calls.
