//! What clients see of the server, through its router and (`tls`) through its socket, over the embedded store.

mod cluster;
mod writes;
