//! Container records, names, locks and the status machine.
