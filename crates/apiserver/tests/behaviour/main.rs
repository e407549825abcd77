//! What clients see of the server, through its router and (`sockets`) through TLS, over the embedded store.

mod access;
mod claims;
mod cluster;
mod deletes;
mod discovery;
mod kube_rs;
mod reads;
mod sockets;
mod watches;
mod writes;
