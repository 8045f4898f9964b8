//! A web server with a folder of pages: nginx, on whichever host a test wants.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// nginx is up in a tenth of a second; machines may be busy.
const START: Duration = Duration::from_secs(10);

/// A running nginx. Dropping it ends it.
#[derive(Debug)]
pub struct Website {
    nginx: Child,
}

impl Website {
    /// Serves `site` at `address:port`. `nginx` is the program to start (on its host), `folder` an empty place for its
    /// settings and logs, `more` what else stands in its `server` block.
    ///
    /// # Errors
    /// It is not installed, or did not come up; the text has its log.
    pub fn start(mut nginx: Command, folder: &Path, site: &Path, listen: &str, more: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (base, root) = (folder.display(), site.display());
        let settings = format!(
            "daemon off; master_process off; pid {base}/pid; error_log {base}/error.log; events {{}}\n\
             http {{ include /etc/nginx/mime.types; access_log {base}/access.log;\n\
             client_body_temp_path {base}/body; proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/fastcgi;\n\
             uwsgi_temp_path {base}/uwsgi; scgi_temp_path {base}/scgi;\n\
             server {{ listen {listen}; root {root}; charset utf-8; {more} }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), settings)?;
        nginx.arg("-e").arg(folder.join("start.log")).arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        let child = nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut site = Self { nginx: child.context("cannot start nginx: is nginx-light installed?")? };
        let log = || fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        let (_, _) = wait::until(START, "nginx is up", || {
            let ended = site.nginx.try_wait()?;
            ensure!(ended.is_none(), "nginx ended: {}", log());
            // Written once it listens.
            Ok(fs::metadata(folder.join("pid")).is_ok_and(|pid| pid.len() > 0).then_some(()))
        })?;
        Ok(site)
    }

    /// Lines of its access log.
    pub fn requests(folder: &Path) -> Vec<String> {
        let log = fs::read_to_string(folder.join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Ends it.
    pub fn stop(self) {}
}

impl Drop for Website {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.nginx.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.nginx.wait();
    }
}

/// A port of this machine that was free a moment ago, for servers that cannot choose one themselves.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// True when something listens there.
pub fn answers(address: &str) -> bool {
    address.parse().is_ok_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}
