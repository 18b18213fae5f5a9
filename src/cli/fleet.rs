//! A server that is one of an Agones fleet, if it is.

use super::config::Config;
use super::options::CliError;
use crate::host::HostHandle;
#[cfg(feature = "agones")]
use crate::host::agones::{Agones, AgonesError, AgonesOptions, public_address, sidecar_port};

/// How long it is waited for word of where players reach this server: the cluster knows once the pod has its place.
#[cfg(feature = "agones")]
const ADDRESS_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// What tells the fleet how this server is.
#[derive(Debug)]
pub(super) struct Fleet {
    #[cfg(feature = "agones")]
    agones: Option<Agones>,
}

#[cfg(feature = "agones")]
impl From<AgonesError> for CliError {
    fn from(error: AgonesError) -> Self {
        Self::Argument { what: "agones".to_owned(), detail: error.to_string() }
    }
}

#[cfg(feature = "agones")]
fn port(config: &Config) -> Option<u16> {
    config.agones.port.or_else(sidecar_port)
}

impl Fleet {
    /// Before it listens: fills in where players reach it, which only the cluster knows.
    #[cfg(feature = "agones")]
    pub(super) fn prepare(config: &mut Config) -> Result<(), CliError> {
        if let (Some(port), true) = (port(config), config.listen.public_addresses.is_empty()) {
            config.listen.public_addresses = vec![public_address(port, ADDRESS_WITHIN)?];
        }
        Ok(())
    }

    /// Takes part in the fleet, if there is one.
    #[cfg(feature = "agones")]
    pub(super) fn join(config: &Config, host: HostHandle) -> Result<Self, CliError> {
        let Some(port) = port(config) else { return Ok(Self { agones: None }) };
        let options = AgonesOptions {
            port,
            ready_again_after: config.agones.ready_again_after,
            rooms_max: config.limits.rooms_max,
            players_max: config.limits.sessions_max,
        };
        Ok(Self { agones: Some(Agones::start(&options, host)?) })
    }

    /// Says that this server has ended.
    #[cfg(feature = "agones")]
    pub(super) fn leave(self) {
        if let Some(Err(error)) = self.agones.map(Agones::stop) {
            tracing::warn!("the fleet was not told that this server ends: {error}");
        }
    }

    #[cfg(not(feature = "agones"))]
    pub(super) fn prepare(config: &mut Config) -> Result<(), CliError> {
        let detail = "this server was built without roomkeeper's feature `agones`".to_owned();
        config.agones.port.map_or(Ok(()), |_| Err(CliError::Argument { what: "agones.port".to_owned(), detail }))
    }

    #[cfg(not(feature = "agones"))]
    pub(super) fn join(_: &Config, _: HostHandle) -> Result<Self, CliError> {
        Ok(Self {})
    }

    #[cfg(not(feature = "agones"))]
    pub(super) fn leave(self) {}
}
