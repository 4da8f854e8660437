//! A `lakegate` process that a test watches, signals and kills while it is at work.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::project::{Ran, eventually};

/// A process under way; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Process {
    /// Starts a command and collects what it prints.
    pub(crate) fn start(mut command: Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Process { child, stdout: Output::collect(stdout), stderr: Output::collect(stderr) }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().unwrap_or_else(|| panic!("the process has ended: {}", self.stderr.text()));
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// Waits until it has stopped itself at the failpoint that `LAKEGATE_TEST_STOP_AT` names.
    pub(crate) async fn stopped(self) -> Process {
        match self.stopped_or_ended().await {
            Ok(stopped) => stopped,
            Err(ran) => panic!("it ended instead of stopping: {ran:?}"),
        }
    }

    /// The same of a process that may not come by the failpoint: what it printed if it has ended.
    pub(crate) async fn stopped_or_ended(mut self) -> Result<Process, Ran> {
        let pid = self.child.id().unwrap();
        while !is_stopped(pid) {
            if self.has_ended() {
                return Err(self.end().await);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(self)
    }

    /// Whether it is over.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has written this to standard error.
    pub(crate) async fn says(&self, text: &str) {
        eventually(text, async || self.stderr.text().contains(text)).await;
    }

    /// The address that it listens on, once it does.
    pub(crate) async fn address(&self) -> SocketAddr {
        const SAID: &str = "listens address=";
        self.says(SAID).await;
        let text = self.stderr.text();
        let (_, rest) = text.split_once(SAID).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Kills it outright.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Ran {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it does not end: {}", self.stderr.text()));
        let code = ended.unwrap().code();
        Ran { code, stdout: self.stdout.finish().await, stderr: self.stderr.finish().await }
    }
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, state)| state.trim_start().starts_with('T'))
}

/// What a process prints, as it comes.
struct Output {
    text: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Output {
    fn collect(from: impl AsyncRead + Unpin + Send + 'static) -> Output {
        let text = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&text);
        let task = tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                let mut all = all.lock().unwrap();
                all.push_str(&line);
                all.push('\n');
            }
        });
        Output { text, task }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    async fn finish(self) -> String {
        self.task.await.unwrap();
        Arc::into_inner(self.text).unwrap().into_inner().unwrap()
    }
}
