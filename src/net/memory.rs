//! A network in memory, for tests: datagrams arrive at once, in order, and none is lost but at a full socket.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::socket::{DatagramSocket, hand_out};

/// Most datagrams that wait at a socket. More are lost, as the system's would be.
const WAITING_MAX: usize = 8_192;

/// The first port that is given to who asks for any.
const FIRST_PORT: u16 = 49_152;

/// A network in memory. A clone is the same network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork(Arc<Mutex<Addresses>>);

#[derive(Debug, Default)]
struct Addresses {
    groups: BTreeMap<SocketAddr, Group>,
    opened: u64,
}

/// The sockets of one address.
#[derive(Debug, Default)]
struct Group {
    shared: bool,
    members: Vec<Member>,
    turn: usize,
}

#[derive(Debug)]
struct Member {
    number: u64,
    waiting: VecDeque<(SocketAddr, Bytes)>,
}

impl Group {
    /// Who of several is given what comes from an address: always the same one, until the group [turns](MemoryNetwork::turn).
    fn member(&mut self, from: SocketAddr) -> Option<&mut Member> {
        let last = match from.ip() {
            IpAddr::V4(ip) => ip.octets().map(usize::from).iter().sum::<usize>(),
            IpAddr::V6(ip) => ip.octets().map(usize::from).iter().sum(),
        };
        let at = (last + usize::from(from.port()) + self.turn).checked_rem(self.members.len())?;
        self.members.get_mut(at)
    }
}

impl MemoryNetwork {
    /// A network without sockets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a socket; port 0 asks for any.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn bind(&self, address: SocketAddr) -> io::Result<MemorySocket> {
        self.open(address, false)
    }

    /// Opens a socket that shares its address with others that are opened so: each remote address is given to one of them.
    ///
    /// # Errors
    /// If the address is taken by one that does not share it.
    pub fn bind_shared(&self, address: SocketAddr) -> io::Result<MemorySocket> {
        self.open(address, true)
    }

    fn open(&self, mut address: SocketAddr, shared: bool) -> io::Result<MemorySocket> {
        let mut addresses = self.lock();
        if address.port() == 0 {
            let is_free = |port: &u16| !addresses.groups.contains_key(&SocketAddr::new(address.ip(), *port));
            let port = (FIRST_PORT..=u16::MAX).find(is_free).ok_or(io::ErrorKind::AddrNotAvailable)?;
            address.set_port(port);
        }
        addresses.opened += 1;
        let number = addresses.opened;
        let group = addresses.groups.entry(address).or_insert_with(|| Group { shared, ..Group::default() });
        if !(group.members.is_empty() || group.shared && shared) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        group.members.push(Member { number, waiting: VecDeque::new() });
        Ok(MemorySocket { network: self.clone(), address, number })
    }

    /// Gives each remote address to the next of the sockets that share an address, as a system does when their number changes.
    pub fn turn(&self, address: SocketAddr) {
        if let Some(group) = self.lock().groups.get_mut(&address) {
            group.turn += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Addresses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemorySocket {
    network: MemoryNetwork,
    address: SocketAddr,
    number: u64,
}

impl DatagramSocket for MemorySocket {
    fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let mut addresses = self.network.lock();
        let member = addresses.groups.get_mut(&to).and_then(|group| group.member(self.address));
        if let Some(member) = member.filter(|member| member.waiting.len() < WAITING_MAX) {
            member.waiting.push_back((self.address, Bytes::copy_from_slice(datagram)));
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut addresses = self.network.lock();
        let members = addresses.groups.get_mut(&self.address).map(|group| &mut group.members);
        let member = members.and_then(|members| members.iter_mut().find(|member| member.number == self.number));
        let (from, datagram) = member.and_then(|member| member.waiting.pop_front()).ok_or(io::ErrorKind::WouldBlock)?;
        Ok((hand_out(&datagram, buffer), from))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        let mut addresses = self.network.lock();
        if let Some(group) = addresses.groups.get_mut(&self.address) {
            group.members.retain(|member| member.number != self.number);
            if group.members.is_empty() {
                addresses.groups.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn addresses_are_taken_shared_and_freed() {
        let network = MemoryNetwork::new();
        let first = network.bind(local(0)).unwrap();
        assert!(network.bind(first.local_address().unwrap()).is_err());
        assert!(network.bind_shared(first.local_address().unwrap()).is_err());
        drop(first);
        let mut pair = [network.bind_shared(local(7)).unwrap(), network.bind_shared(local(7)).unwrap()];
        let mut client = network.bind(local(0)).unwrap();
        let mut hears = || {
            client.send(&[1], local(7)).unwrap();
            let mut buffer = [0; 4];
            pair.iter_mut().position(|socket| socket.receive(&mut buffer).is_ok()).unwrap()
        };
        let before = hears();
        assert_eq!(hears(), before);
        network.turn(local(7));
        assert_ne!(hears(), before);
    }
}
