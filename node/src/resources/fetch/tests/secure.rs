//! Secure connections: to a server whose certificate an authority made by openssl has signed, and to impostors.

use std::{io::Read, path::Path, process::Command, sync::Arc};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    super::tls::Authorities,
    server::{Server, plain},
    *,
};

fn openssl(folder: &Path, line: &str) {
    let ended = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().expect("openssl is there");
    assert!(ended.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// An authority and a server's certificate for `tls.example`, as files.
fn certificates(folder: &Path) {
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {curve} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority"));
    openssl(folder, &format!("req {curve} -keyout server.key -out server.csr -subj /CN=tls.example"));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:tls.example\n").unwrap();
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    );
}

fn secure_server(folder: &Path) -> Server {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_file(folder.join("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    Server::with(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).map_err(io::Error::other)?, stream);
        let mut first = [0; 4_096];
        let _ = stream.read(&mut first)?;
        plain(&mut stream, "whispered")?;
        stream.conn.send_close_notify();
        stream.flush()
    })
}

#[tokio::test]
async fn secure_connections_trust_the_authorities_and_the_name() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let server = secure_server(folder.path());
    let port = server.port();
    let book = Book::of([("tls.example", &["127.0.0.1"]), ("other.example", &["127.0.0.1"])]);
    let open = [format!("tls.example:{port}"), format!("other.example:{port}")];
    let web = web(&[&open[0], &open[1]], book.clone(), SMALL);
    let authorities = Authorities::of_pem(&std::fs::read(folder.path().join("ca.pem")).unwrap());
    assert_eq!(authorities.count(), 1);
    web.authorities.set(authorities).map_err(|_| "set").unwrap();
    let page = fetched(&web, format!("https://tls.example:{port}/")).await.unwrap();
    assert_eq!(page.body, b"whispered");
    // The same server under a name that its certificate does not have.
    let error = fetched(&web, format!("https://other.example:{port}/")).await.unwrap_err();
    assert_eq!(error.code(), "tls", "{error}");
    // A device that does not know the authority.
    let stranger = super::web(&[&open[0]], book.clone(), SMALL);
    certificates(folder.path());
    let other = Authorities::of_pem(&std::fs::read(folder.path().join("ca.pem")).unwrap());
    stranger.authorities.set(other).map_err(|_| "set").unwrap();
    let error = fetched(&stranger, format!("https://tls.example:{port}/")).await.unwrap_err();
    assert_eq!(error.code(), "tls", "{error}");
    // A device that knows none at all says so.
    let bare = super::web(&[&open[0]], book, SMALL);
    bare.authorities.set(Authorities::of_pem(b"")).map_err(|_| "set").unwrap();
    let error = fetched(&bare, format!("https://tls.example:{port}/")).await.unwrap_err();
    assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
}
