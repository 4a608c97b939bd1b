//! Encrypted connections: whom they trust.
//!
//! The server of the tests may have been built without TLS, so a door stands before it: it answers
//! the request for encryption as a server does, and hands the rest on in plain text.

use std::net::SocketAddr;
use std::sync::Arc;

use aosk_abi::Code;
use aosk_store::{PostgresReader, PostgresStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::server::{is_here, options};
use crate::support::refused;

/// An authority and a certificate for `localhost` that it signed.
fn certificates() -> (String, ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
    let cert = params.signed_by(&key, &authority).expect("signed");
    let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], private)
        .expect("a configuration");
    (authority.pem(), config)
}

/// Answers for the server at `port`; with no configuration it has no TLS.
async fn door(port: u16, config: Option<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let acceptor = config.map(|config| TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("the server");
                let mut request = [0; 8];
                client.read_exact(&mut request).await.expect("a request");
                // Its code, where it asks for encryption, is 80877103.
                let asks = request[4..] == 80_877_103_u32.to_be_bytes();
                match acceptor {
                    Some(acceptor) if asks => {
                        client.write_all(b"S").await.expect("answered");
                        if let Ok(mut client) = acceptor.accept(client).await {
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                        }
                    }
                    _ => {
                        if asks {
                            client.write_all(b"N").await.expect("answered");
                        } else {
                            server.write_all(&request).await.expect("handed on");
                        }
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn each_mode_trusts_whom_it_says() {
    if !is_here() {
        return;
    }
    let options = options();
    let port: u16 = options.url.split([':', '/']).nth(4).expect("a port").parse().expect("one");
    let (authority, config) = certificates();
    let (stranger, _) = certificates();
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let ours = file("ours.pem", &authority);
    let theirs = file("theirs.pem", &stranger);
    let empty = file("empty.pem", "no certificate");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let with = runtime.block_on(door(port, Some(config))).port();
    let without = runtime.block_on(door(port, None)).port();

    let at = |host: &str, port: u16, settings: &str| {
        let url = format!("postgres://postgres@{host}:{port}/postgres?{settings}");
        aosk_store::PostgresOptions { url, ..options.clone() }
    };
    let is_encrypted = |port| port == with;
    let full = format!("sslmode=verify-full&sslrootcert={ours}");
    for (host, port, settings) in [
        ("localhost", with, "sslmode=disable"),
        ("localhost", with, "sslmode=prefer"),
        ("localhost", without, "sslmode=prefer"),
        ("localhost", with, "sslmode=require"),
        ("127.0.0.1", with, "sslmode=require"),
        ("localhost", with, &full),
        ("localhost", with, &format!("sslmode=require&sslrootcert={ours}")),
    ] {
        // The door hands on what is not encrypted, too: `disable` reaches the server through it.
        assert!(is_encrypted(port) || port == without);
        drop(PostgresStore::open(&at(host, port, settings)).expect(settings));
        drop(PostgresReader::open(&at(host, port, settings)).expect(settings));
    }
    for (host, port, settings, code, words) in [
        ("localhost", without, "sslmode=require", Code::StoreUnreachable, "TLS"),
        ("localhost", without, &*full, Code::StoreUnreachable, "TLS"),
        ("127.0.0.1", with, &*full, Code::StoreUnreachable, "certificate"),
        ("localhost", with, "sslmode=verify-full", Code::StoreUnreachable, "certificate"),
        (
            "localhost",
            with,
            &format!("sslmode=verify-full&sslrootcert={theirs}"),
            Code::StoreUnreachable,
            "certificate",
        ),
        (
            "localhost",
            with,
            &format!("sslmode=verify-full&sslrootcert={empty}"),
            Code::StoreAddress,
            "no certificate in it",
        ),
        (
            "localhost",
            with,
            "sslmode=verify-full&sslrootcert=/nowhere.pem",
            Code::StoreAddress,
            "/nowhere.pem",
        ),
    ] {
        let error = refused(PostgresStore::open(&at(host, port, settings)), code);
        assert!(error.message.contains(words), "{settings}: {error}");
    }
}
