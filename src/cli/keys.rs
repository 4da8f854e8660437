//! `lakegate keys`: API keys, made, listed and revoked.

use chrono::Utc;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::auth::create_key;
use crate::domain::{Auth, Code, Error, NewKey, Result, parse_expiry};
use crate::store::KeyRecord;

use super::Ended;
use super::arguments::{CreateKeyArgs, KeysAction, KeysArgs};
use super::context::Context;
use super::printer::{ago, ahead};

pub(super) async fn run(context: &Context<'_>, args: &KeysArgs) -> Result<(), Ended> {
    match &args.action {
        KeysAction::Create(args) => create(context, args).await,
        KeysAction::List => list(context).await,
        KeysAction::Revoke(args) => revoke(context, &args.id).await,
    }
}

async fn create(context: &Context<'_>, args: &CreateKeyArgs) -> Result<(), Ended> {
    let new = wanted(args)?;
    let (created, asked_for) = context
        .with_engine(context.log(), async |engine| {
            let session = engine.control_session().await?;
            let created = create_key(engine.control(), &*session, &new).await?;
            Ok((created, matches!(&engine.project().auth, Auth::Required(credentials) if credentials.keys)))
        })
        .await?;
    if context.printer.is_json() {
        context.printer.json(&created);
    } else {
        context.printer.line(created.key.expose_secret());
        context.printer.note("this is the only time that the key is shown");
    }
    if !asked_for {
        context.printer.note("no API asks for keys before lakegate.yaml says `auth: {keys: true}`");
    }
    Ok(())
}

fn wanted(args: &CreateKeyArgs) -> Result<NewKey> {
    let misused = |detail: String| Error::new(Code::InvalidUsage, detail).hint("see `lakegate keys create --help`");
    let mut new = NewKey { name: args.name.clone(), roles: args.roles.clone(), ..NewKey::default() };
    for attribute in &args.attributes {
        let Some((name, value)) = attribute.split_once('=') else {
            return Err(misused(format!("`--attribute {attribute}` is not NAME=VALUE")));
        };
        if new.attributes.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(misused(format!("the attribute `{name}` is given twice")));
        }
    }
    if let Some(text) = &args.expires {
        let expiry = parse_expiry(text, Utc::now());
        let wrong =
            || misused(format!("`--expires {text}` is no time to come: write `90d`, `2027-01-31`, or RFC 3339"));
        new.expires_at = Some(expiry.ok_or_else(wrong)?);
    }
    new.check().map_err(misused)?;
    Ok(new)
}

async fn list(context: &Context<'_>) -> Result<(), Ended> {
    let keys = context
        .with_engine(context.log(), async |engine| {
            let session = engine.control_session().await?;
            engine.control().keys(&*session).await
        })
        .await?;
    if context.printer.is_json() {
        keys.iter().for_each(|key| context.printer.json(key));
        return Ok(());
    }
    let columns = ["id", "name", "roles", "attributes", "created", "ends", "last used"];
    context.printer.table(&columns, keys.iter().map(row).collect());
    Ok(())
}

fn row(key: &KeyRecord) -> Vec<String> {
    let roles: Vec<&str> = key.roles.iter().map(|role| role.as_deref().unwrap_or("null")).collect();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let attributes: Vec<String> = key.attributes.iter().map(|(name, of)| format!("{name}={}", text(of))).collect();
    let ends = match (key.revoked_at, key.expires_at) {
        (Some(time), _) => format!("revoked {}", ago(time)),
        (None, Some(time)) if time <= Utc::now() => format!("expired {}", ago(time)),
        (None, _) if !key.is_understood() => "not taken: a role or an attribute is no text".to_owned(),
        (None, Some(time)) => ahead(time),
        (None, None) => String::new(),
    };
    vec![
        key.id.clone(),
        key.name.clone(),
        roles.join(", "),
        attributes.join(", "),
        ago(key.created_at),
        ends,
        key.last_used_at.map(ago).unwrap_or_default(),
    ]
}

async fn revoke(context: &Context<'_>, id: &str) -> Result<(), Ended> {
    let revoked = context
        .with_engine(context.log(), async |engine| {
            let session = engine.control_session().await?;
            engine.control().revoke_key(&*session, id).await
        })
        .await?;
    // Whoever pastes the whole key has it in the history of his shell: it is not repeated.
    let revoked = revoked.ok_or_else(|| {
        Error::new(Code::NoSuchKey, "no API key has this id").hint("`lakegate keys list` shows the ids")
    })?;
    if context.printer.is_json() {
        context.printer.json(&revoked);
    } else {
        context.printer.line(&format!("{}: revoked; no server takes it after two seconds", revoked.id));
    }
    Ok(())
}
