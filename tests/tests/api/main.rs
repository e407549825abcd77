//! What holds of the API of a real `svcd server` process, also when it is killed: histories of many clients against the
//! guarantees of watches and of the store, memory under clients that do not read, the audit log's file.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod checker;
#[cfg(test)]
mod checker_tests;
#[cfg(test)]
mod client;
#[cfg(test)]
mod drive;
#[cfg(test)]
mod history;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod server;
