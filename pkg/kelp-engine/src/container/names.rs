//! Generated names.

/// A new name.
pub(crate) fn generate() -> String {
    format!("kelp_{}", kelp_state::ContainerId::random().short())
}
