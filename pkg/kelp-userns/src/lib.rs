//! User namespaces: subordinate ids, id maps, entering.
