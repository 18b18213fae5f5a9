//! Connections that are encrypted, to servers that prove who they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What an address says of encryption that the driver does not know: it is taken out of it.
///
/// `sslmode` is `disable`, `prefer` and `allow`, which don't encrypt here, or `require`, `verify-ca` and `verify-full`, which all mean the last: a
/// server that does not prove its name could be anybody. `sslrootcert` is the file with the certificates that it is proved by; without it they
/// are those of the system.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) wanted: bool,
    root: Option<PathBuf>,
}

impl Tls {
    /// Takes what is said of encryption out of an address.
    pub(super) fn split(address: &str) -> (String, Self) {
        let mut tls = Self::default();
        let address = match address.split_once("://").map(|_| address.split_once('?')) {
            Some(None) => address.to_owned(),
            Some(Some((place, parameters))) => {
                let rest: Vec<&str> = parameters.split('&').filter(|parameter| !tls.takes(parameter)).collect();
                if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) }
            }
            None => address.split_whitespace().filter(|parameter| !tls.takes(parameter)).collect::<Vec<_>>().join(" "),
        };
        (address, tls)
    }

    fn takes(&mut self, parameter: &str) -> bool {
        match parameter.split_once('=') {
            Some(("sslmode", mode)) => {
                let known = ["require", "verify-ca", "verify-full"].contains(&mode);
                self.wanted |= known;
                known || ["disable", "prefer", "allow"].contains(&mode)
            }
            Some(("sslrootcert", path)) => {
                self.root = Some(path.replace("%2F", "/").replace("%20", " ").into()).filter(|path: &PathBuf| path != Path::new("system"));
                true
            }
            _ => false,
        }
    }

    /// What encrypts connections.
    ///
    /// # Errors
    /// If there is no certificate to go by; a sentence says why.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, String> {
        let mut roots = RootCertStore::empty();
        let place = match &self.root {
            Some(path) => {
                let place = format!("sslrootcert = {}", path.display());
                let read = CertificateDer::pem_file_iter(path).map_err(|error| format!("{place}: {error}"))?;
                for certificate in read {
                    let certificate = certificate.map_err(|error| format!("{place}: {error}"))?;
                    roots.add(certificate).map_err(|error| format!("{place}: {error}"))?;
                }
                place
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                "this system".to_owned()
            }
        };
        if roots.is_empty() {
            return Err(format!("{place} has no certificates by which a server could prove its name"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_encryption_is_taken_out_of_an_address() {
        let with = |wanted, root: Option<&str>| Tls { wanted, root: root.map(PathBuf::from) };
        for (address, rest, tls) in [
            ("postgres://a@b/c", "postgres://a@b/c", with(false, None)),
            ("postgres://a@b/c?sslmode=require", "postgres://a@b/c", with(true, None)),
            (
                "postgres://a@b/c?x=1&sslmode=verify-full&sslrootcert=/etc/ca.pem&y=2",
                "postgres://a@b/c?x=1&y=2",
                with(true, Some("/etc/ca.pem")),
            ),
            ("host=b sslmode=verify-ca user=a sslrootcert=ca.pem", "host=b user=a", with(true, Some("ca.pem"))),
            ("host=b sslmode=disable", "host=b", with(false, None)),
            ("host=b sslrootcert=system sslmode=verify-full", "host=b", with(true, None)),
            // What is none is left for the driver to complain of.
            ("host=b sslmode=perhaps", "host=b sslmode=perhaps", with(false, None)),
        ] {
            assert_eq!(Tls::split(address), (rest.to_owned(), tls), "{address}");
        }
    }
}
