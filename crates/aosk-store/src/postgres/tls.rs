//! Whom to believe on the wire.
//!
//! `sslmode` means what it means to every PostgreSQL tool: `prefer` and `require` encrypt without
//! asking who answers, so they keep out who listens and not who stands between; `verify-full` asks.
//! A file of roots is only given to be checked against, so with one every mode that encrypts checks
//! the certificate and the name.

use std::path::PathBuf;
use std::sync::Arc;

use aosk_abi::Code;
use aosk_ports::StoreError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Whom a connection trusts to be the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Whoever answers.
    Anyone,
    /// Whoever the machine's certificate authorities vouch for.
    System,
    /// Whoever the authorities in this PEM file vouch for.
    File(PathBuf),
}

impl Trust {
    /// What makes encrypted connections.
    ///
    /// # Errors
    /// [`Code::StoreAddress`] for roots that cannot be read.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, StoreError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let config = match self {
            Self::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
                .with_no_client_auth(),
            Self::System => {
                let mut roots = RootCertStore::empty();
                let found = rustls_native_certs::load_native_certs();
                if roots.add_parsable_certificates(found.certs).0 == 0 {
                    return Err(unusable(&"this machine has no certificate authorities"));
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::File(path) => {
                let unreadable = |error: &dyn std::fmt::Display| {
                    unusable(&format_args!("sslrootcert={}: {error}", path.display()))
                };
                let certs = CertificateDer::pem_file_iter(path)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| unreadable(&error))?;
                if certs.is_empty() {
                    return Err(unreadable(&"there is no certificate in it"));
                }
                let mut roots = RootCertStore::empty();
                for cert in certs {
                    roots.add(cert).map_err(|error| unreadable(&error))?;
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }
}

fn unusable(reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::new(
        Code::StoreAddress,
        format!(
            "no encrypted connection can be made: {reason}; give the authority's certificate as \
             sslrootcert=FILE in the address of the database"
        ),
    )
}

/// Believes any certificate, but still that its holder speaks.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
