//! Gives memory back to the system after work that used much of it for a moment.
//!
//! sled frees what it has replaced only while somebody goes on working with it, and the allocator keeps the pages of a
//! thread that has ended: without this, a store would look half as large again after its first checkpoint.

/// sled hands its garbage over in bags; a round frees some of them.
const ROUNDS: usize = 4096;

/// Frees what sled has left behind, and returns free pages to the system.
pub(super) fn give_back() {
    for _ in 0..ROUNDS {
        crossbeam_epoch::pin().flush();
    }
    trim();
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the allocator's own call; it takes and gives no pointer")]
fn trim() {
    // SAFETY: `malloc_trim(3)` may be called at any time from any thread.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
const fn trim() {}
