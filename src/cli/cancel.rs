//! `lakegate cancel`: the run of a pipeline that is under way, in whichever process.

use crate::domain::{Code, Error, Result, RunState};
use crate::engine::CancelledRun;

use super::arguments::CancelArgs;
use super::context::{Context, table_name};
use super::{Ended, interrupt};

pub(super) async fn run(context: &Context<'_>, args: &CancelArgs) -> Result<(), Ended> {
    let interrupted = interrupt::token();
    let name = table_name(&args.name)?;
    let (asked, ended) = context
        .with_engine(context.log(), async |engine| {
            let asked = engine.ask_cancel(&name, &who()).await?;
            if args.no_wait {
                return Ok((asked, None));
            }
            let waited = interrupted.run_until_cancelled(engine.await_cancelled(asked.clone())).await;
            let ended = waited.unwrap_or_else(|| {
                Err(Error::new(Code::Cancelled, format!("no longer waits; run {} ends all the same", asked.run)))
            })?;
            Ok((asked, Some(ended)))
        })
        .await?;
    if context.printer.is_json() {
        context.printer.json(ended.as_ref().unwrap_or(&asked));
    } else {
        context.printer.line(&sentence(&asked, ended.as_ref()));
    }
    Ok(())
}

fn sentence(asked: &CancelledRun, ended: Option<&CancelledRun>) -> String {
    let CancelledRun { pipeline, run, .. } = asked;
    match ended {
        None => format!("{pipeline}: run {run} has been asked to end"),
        Some(ended) if ended.state == RunState::Cancelled.as_str() => {
            format!("{pipeline}: run {run} is cancelled; what was published before is untouched")
        }
        Some(ended) => format!("{pipeline}: run {run} has ended by itself: {}", ended.state),
    }
}

/// Who cancels, for people: `ann on db-1`.
fn who() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let user = user.map_or_else(|| "somebody".to_owned(), |user| user.name);
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    format!("{user} on {host}")
}
