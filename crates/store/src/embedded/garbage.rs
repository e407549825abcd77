//! Frees what work that used much memory for a moment has left behind.
//!
//! sled frees what it has replaced only while somebody goes on working with it: without this, a store would look half as
//! large again after its first checkpoint.

/// sled hands its garbage over in bags; a round frees some of them.
const ROUNDS: usize = 4096;

/// Frees what sled has left behind.
pub(super) fn free() {
    for _ in 0..ROUNDS {
        crossbeam_epoch::pin().flush();
    }
}
