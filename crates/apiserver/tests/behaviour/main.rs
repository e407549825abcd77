//! What clients see of the server, through its router and (`sockets`) through TLS, over the embedded store.

#[cfg(test)]
mod access;
#[cfg(test)]
mod addresses;
#[cfg(test)]
mod applies;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod deletes;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod events;
#[cfg(test)]
mod kube_rs;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod rbac;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod revisions;
#[cfg(test)]
mod selection;
#[cfg(test)]
mod served;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod warnings;
#[cfg(test)]
mod watches;
#[cfg(test)]
mod writes;
