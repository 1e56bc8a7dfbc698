//! Who is at the other end: TLS with certificates on both sides, or, by explicit wish, nobody asks.
//!
//! # Invariants
//!
//! 1. A connection over TLS is one of version 1.3 in which both sides have shown a certificate of
//!    the configured authorities, anew for each connection.
//! 2. A certificate stands for a node when it has that node's name and no name that any node has:
//!    one for `*` would be everybody's.

use std::sync::Arc;

use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::config::{Security, TlsConfig};
use super::error::{ConnectionError, TransportError};
use super::stream::Stream;

/// The name that the certificate of a node must have, as a DNS name among its alternative names:
/// `node-<id>.<cluster, 32 hexadecimal digits>.fsmdb`.
///
/// ```
/// use fsmdb_node::transport::node_name;
///
/// assert_eq!(node_name(0xfe, 3), "node-3.000000000000000000000000000000fe.fsmdb");
/// ```
#[must_use]
pub fn node_name(cluster: u128, id: u64) -> String {
    format!("node-{id}.{cluster:032x}.fsmdb")
}

/// How connections are secured.
pub(super) struct Gate {
    cluster: u128,
    tls: Option<(TlsConnector, TlsAcceptor)>,
}

/// What is known of the other end of an accepted connection.
pub(super) enum Shown {
    /// Nothing: everybody is believed.
    Nothing,
    /// A certificate of an authority that is trusted.
    Certificate(CertificateDer<'static>),
}

impl Gate {
    pub(super) fn new(security: &Security, cluster: u128, id: u64) -> Result<Self, TransportError> {
        let Security::Tls(config) = security else { return Ok(Self { cluster, tls: None }) };
        let certificates = certificates("certificates", &config.certificates)?;
        let own = certificates.first().is_some_and(|own| names(own, cluster, id));
        if !own {
            return Err(TransportError::OwnCertificate { id, name: node_name(cluster, id) });
        }
        let tls = configure(config, certificates)?;
        Ok(Self { cluster, tls: Some(tls) })
    }

    /// Secures a connection to a node that was dialled.
    pub(super) async fn dialled(&self, tcp: TcpStream, to: u64) -> Result<Stream, ConnectionError> {
        let Some((connector, _)) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(node_name(self.cluster, to));
        let name = name.map_err(|_| ConnectionError::Certificate)?;
        let stream = connector.connect(name, tcp).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if shown.is_some_and(|shown| names(shown, self.cluster, to)) {
            Ok(Box::new(stream))
        } else {
            Err(ConnectionError::Certificate)
        }
    }

    /// Secures a connection that was accepted.
    pub(super) async fn accepted(
        &self,
        tcp: TcpStream,
    ) -> Result<(Stream, Shown), ConnectionError> {
        let Some((_, acceptor)) = &self.tls else { return Ok((Box::new(tcp), Shown::Nothing)) };
        let stream = acceptor.accept(tcp).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or(ConnectionError::Certificate)?.clone().into_owned();
        Ok((Box::new(stream), Shown::Certificate(shown)))
    }

    /// Whether what was shown stands for this node.
    pub(super) fn believes(&self, shown: &Shown, id: u64) -> bool {
        match shown {
            Shown::Nothing => true,
            Shown::Certificate(certificate) => names(certificate, self.cluster, id),
        }
    }
}

fn names(certificate: &CertificateDer<'_>, cluster: u128, id: u64) -> bool {
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else { return false };
    let has = |id| {
        ServerName::try_from(node_name(cluster, id))
            .is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    };
    // No node has the id 0, so only a wildcard has its name.
    has(id) && !has(0)
}

fn refused(what: &'static str, reason: &dyn ToString) -> TransportError {
    TransportError::Tls { what, reason: reason.to_string() }
}

fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| refused(what, &error))?;
    if read.is_empty() { Err(refused(what, &"there is none")) } else { Ok(read) }
}

fn configure(
    config: &TlsConfig,
    own: Vec<CertificateDer<'static>>,
) -> Result<(TlsConnector, TlsAcceptor), TransportError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("authorities", &config.authorities)? {
        roots.add(authority).map_err(|error| refused("authorities", &error))?;
    }
    let roots = Arc::new(roots);
    let key = || {
        PrivateKeyDer::from_pem_slice(&config.key).map_err(|error| refused("private key", &error))
    };
    let provider = Arc::new(ring::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| refused("TLS 1.3", &error))?;
    let mut client = client
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(own.clone(), key()?)
        .map_err(|error| refused("certificates", &error))?;
    client.resumption = Resumption::disabled();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let verifier = verifier.build().map_err(|error| refused("authorities", &error))?;
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| refused("TLS 1.3", &error))?;
    let mut server = server
        .with_client_cert_verifier(verifier)
        .with_single_cert(own, key()?)
        .map_err(|error| refused("certificates", &error))?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok((Arc::new(client).into(), Arc::new(server).into()))
}
