//! `lakegate get`: one lookup, through the API's own code.

use crate::serve::{self, Question};

use super::Ended;
use super::arguments::GetArgs;
use super::context::{Context, table_name};

pub(super) async fn run(context: &Context<'_>, args: &GetArgs) -> Result<(), Ended> {
    let name = table_name(&args.name)?;
    let opened = context.open().await?;
    let project = &opened.project;
    let question = Question {
        table: name.to_string(),
        key: args.key.iter().map(|part| part.clone().into_bytes()).collect(),
        ..Question::default()
    };
    let body = serve::lookup_once(&opened.connector, &project.schemas, &project.limits, &question).await;
    opened.close().await;
    context.printer.bytes(&body?);
    Ok(())
}
