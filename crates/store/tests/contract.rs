//! The battery, run over the embedded engine.

mod battery;

use std::sync::Arc;

use svcd_store::{Embedded, Options};

/// One test for each function of the battery.
macro_rules! owes {
    ($($duty:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $duty() {
            let directory = tempfile::tempdir().unwrap();
            let store = Embedded::open(directory.path().join("store"), Options::default()).unwrap();
            battery::$duty(Arc::new(store)).await;
        }
    )*};
}

owes! {
    an_empty_store_is_at_one,
    a_write_is_read_back,
    the_revision_is_spliced_in,
    expectations_decide,
    a_transaction_is_whole_or_nothing,
    what_changes_nothing_takes_no_revision,
    a_key_stands_once_in_a_transaction,
    pages_stand_on_one_revision,
    lists_are_in_order_and_under_their_prefix,
    the_past_and_the_future_are_told_apart,
    a_watch_sees_every_event_once,
    a_watch_resumes_anywhere,
    a_watch_of_the_future_waits,
    a_quiet_watch_makes_progress,
    concurrent_increments_all_count,
    big_values_are_kept_whole,
}
