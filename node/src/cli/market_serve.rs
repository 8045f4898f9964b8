//! `msm market serve`: a market's folder for anybody to fetch over HTTP, as any web server would give it.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use msm_market_index::{MarketFolder, PublishedFolder, folder::FolderError};
use msm_protocol::{ContentHash, limits::PACKAGE_BYTES};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::{
    market_folder::{from_market, own_market},
    screen::{Screen, Stop},
    signals::Signals,
};
use crate::{
    command::{CommandError, ErrorCode},
    home::Home,
    http::{self, HEADER_TIME, Whole},
};

/// A connection that asks for nothing more, or takes its answer too slowly, is closed. *Judgement.*
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// A folder for others.
#[derive(Debug, Args)]
pub struct Serve {
    /// A market's folder, or the alias of a market of this home; may be left out while the home has one
    #[arg(value_name = "FOLDER|ALIAS")]
    market: Option<String>,
    /// Where others connect
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:7480")]
    listen: SocketAddr,
}

impl Serve {
    pub(super) async fn run(self, home: &Home, screen: &mut Screen) -> Result<(), Stop> {
        let folder = self.folder(home)?;
        // Whoever serves a folder should know that others will take it.
        let market = MarketFolder::open(&folder).map_err(from_market)?.share();
        let failed = |error: std::io::Error| {
            let message = format!("cannot listen at {}: {error}", self.listen);
            CommandError::new(ErrorCode::Failed, message).or_try("msm market serve --listen 127.0.0.1:0")
        };
        let mut signals = Signals::listen()?;
        let listener = TcpListener::bind(self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if screen.style.json {
            let address = address.to_string();
            screen.result_json(&json!({ "schema": "msm.market-serve/1", "address": address, "market": market }))?;
        } else {
            let host = if address.ip().is_unspecified() { "HOST".to_owned() } else { address.ip().to_string() };
            screen.result_line(format!(
                "serving {} at {address} until SIGTERM or SIGINT\nshare   msm market add http://{host}:{}#{}",
                folder.display(),
                address.port(),
                market.fingerprint()
            ))?;
        }
        tokio::select! {
            () = serve(listener, PublishedFolder::at(folder)) => Ok(()),
            _ = signals.next() => Ok(()),
        }
    }

    fn folder(&self, home: &Home) -> Result<PathBuf, CommandError> {
        if let Some(folder) = self.market.as_ref().map(PathBuf::from).filter(|folder| folder.is_dir()) {
            return Ok(folder);
        }
        let entry = own_market(home, self.market.as_deref())?;
        Ok(entry.publish_folder.unwrap_or_default())
    }
}

async fn serve(listener: TcpListener, folder: PublishedFolder) {
    let folder = Arc::new(folder);
    let serve = |stream| {
        let served = connection(stream, folder.clone());
        async move { drop(tokio::time::timeout(CONNECTION_TIME, served).await) }
    };
    http::take(listener, serve).await;
}

async fn connection(stream: TcpStream, folder: Arc<PublishedFolder>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let folder = folder.clone();
        async move { Ok::<_, Infallible>(answer(request, folder).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(16 * 1024);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer(request: Request<Incoming>, folder: Arc<PublishedFolder>) -> Response<Whole> {
    let head = request.method() == Method::HEAD;
    if !head && request.method() != Method::GET {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(file) = published(request.uri().path()) else { return status(StatusCode::NOT_FOUND) };
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || folder.file(&file, PACKAGE_BYTES)).await;
    match read {
        Ok(Ok(Some(bytes))) => Response::new(Whole::from(Bytes::from(bytes))),
        Ok(Ok(None) | Err(FolderError::NotAFile { .. })) => status(StatusCode::NOT_FOUND),
        _ => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn status(code: StatusCode) -> Response<Whole> {
    let mut response = Response::new(Whole::from(Bytes::new()));
    *response.status_mut() = code;
    response
}

/// The file of the layout that a path names; nothing else that lies in the folder is given.
fn published(path: &str) -> Option<&str> {
    let file = path.strip_prefix('/')?;
    let version = |name: &str| name.strip_suffix(".cbor").is_some_and(|number| number.parse::<u64>().is_ok());
    let fits = file == "head.cbor"
        || file.strip_prefix("root/").is_some_and(version)
        || file.strip_prefix("blobs/").is_some_and(|name| name.parse::<ContentHash>().is_ok());
    fits.then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_published_has_a_name() {
        let blob = format!("/blobs/{}", ContentHash::of(b"x"));
        for good in ["/head.cbor", "/root/1.cbor", "/root/12.cbor", &blob] {
            assert_eq!(published(good), good.strip_prefix('/'));
        }
        for bad in [
            "/",
            "head.cbor",
            "//head.cbor",
            "/draft/index.cbor",
            "/.lock",
            "/root/../head.cbor",
            "/root/x.cbor",
            "/root/1.cbor/",
            "/blobs/../head.cbor",
            "/blobs/x",
            "/%68ead.cbor",
            "/keys/home.key",
        ] {
            assert_eq!(published(bad), None, "{bad}");
        }
    }
}
