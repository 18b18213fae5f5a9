//! Real sockets and the real transport.

mod bare_transport;
mod gateway;
mod handshake;
mod hostile_bytes;
mod over_udp;
mod past;
mod reconnecting;
mod sessions;
