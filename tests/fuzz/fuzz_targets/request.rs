//! Requests of all kinds against a server in this process: none may panic, and none is the server's fault.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../harness.rs"]
mod harness;

thread_local! {
    static HARNESS: RefCell<harness::Harness> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    if let Err(why) = HARNESS.with_borrow_mut(|harness| harness.run(input)) {
        eprintln!("{why}");
        std::process::abort();
    }
});
