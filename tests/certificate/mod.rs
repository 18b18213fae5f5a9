//! Certificates of servers on this machine.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::installed::if_there;

/// Makes a key and a certificate for 127.0.0.1, by which whoever trusts it knows the server, and returns the certificate. Nothing if the machine has no
/// `openssl`. Who asks for one as another user says which, and which group.
pub fn make(folder: &Path, key: &Path, certificate: PathBuf, user: Option<(u32, u32)>) -> Option<PathBuf> {
    let asked = "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n[dn]\nCN = roomkeeper\n[v3]\n\
        basicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    let config = folder.join("openssl.conf");
    std::fs::write(&config, asked).unwrap();
    let mut command = Command::new("openssl");
    command.current_dir(folder);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-config"]);
    command.arg(&config).arg("-keyout").arg(key).arg("-out").arg(&certificate);
    let made = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        made => Some(made.unwrap()),
    };
    let made = if_there(made, "openssl", "openssl")?;
    assert!(made.status.success(), "no certificate: {}", String::from_utf8_lossy(&made.stderr));
    Some(certificate)
}
