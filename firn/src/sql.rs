//! `firn sql`: queries over topics, given on the command line, in a file, or typed into a shell.
//!
//! A running broker answers, or an engine in this process over a bucket alone ([`asking`]); this side prints what comes.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use analytics::sql::Text;
use analytics::sql::output::Format;
use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures::StreamExt;

use crate::WrongUse;
use crate::archive::AdminArgs;
use crate::connect::{assignment, seconds};
use crate::output::tell;
use crate::progress::while_waiting;

mod asking;
mod completion;
mod pager;
mod session;
mod shell;
mod statements;

use asking::{Asked, Broker, Bucket};
use session::Session;

/// Arguments of `firn sql`.
#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The query; without one a shell is opened on a terminal, else standard input is read.
    query: Option<String>,
    /// Read queries, separated by semicolons, from a file.
    #[arg(short, long, value_name = "FILE", conflicts_with = "query")]
    file: Option<PathBuf>,
    /// How to print the rows.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    format: Format,
    /// Seconds that a query may take [default: the broker's firn.sql.timeout.ms, which is also the most].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// A value for `$NAME` in the queries, or for `$1` and so on; JSON, or else text. Repeatable.
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = assignment)]
    params: Vec<(String, String)>,
    #[command(flatten)]
    admin: AdminArgs,
    /// Read the archive alone, without a broker: what is not archived yet is not seen. As `firn server --object-store`.
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    /// The cluster, when the store has the archives of several: its id.
    #[arg(long, value_name = "ID", requires = "object_store")]
    cluster_id: Option<String>,
}

impl SqlArgs {
    async fn asked(self) -> anyhow::Result<Asked> {
        let timeout = self.timeout;
        Ok(match self.object_store {
            Some(url) => Asked::Bucket(Box::new(Bucket::open(url, self.cluster_id, timeout).await?)),
            None => Asked::Broker(Broker::new(self.admin.address()?, timeout)?),
        })
    }
}

fn formats() -> impl TypedValueParser<Value = Format> {
    let names = Format::NAMES.map(|(name, _)| name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Format>())
}

/// Runs the command.
pub(crate) async fn run(args: SqlArgs) -> anyhow::Result<()> {
    let text = match (&args.query, &args.file) {
        (Some(query), _) => Some(query.clone()),
        (None, Some(file)) => Some(read(file)?),
        (None, None) if std::io::stdin().is_terminal() => None,
        (None, None) => Some(std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?),
    };
    let format = args.format;
    let mut session = Session::new(&args.params)?;
    let asked = args.asked().await?;
    let Some(text) = text else {
        return shell::run(&asked, session, format).await;
    };
    if !format.is_text() && std::io::stdout().is_terminal() {
        let reason = format!("{format} is not for a terminal: send standard output to a file");
        return Err(WrongUse(reason).into());
    }
    let queries = session.queries(&text)?;
    if queries.is_empty() {
        return Err(WrongUse("there is no query".to_owned()).into());
    }
    if queries.len() > 1 && !format.is_text() {
        return Err(WrongUse(format!("several queries cannot be answered by one file of {format}")).into());
    }
    for query in queries {
        print(&asked, query, format).await?;
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut opened = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    opened.read_to_string(&mut text).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text)
}

/// Prints a query's rows as they come. Where the reader wants no more of them, the query is cancelled.
async fn print(asked: &Asked, query: Text, format: Format) -> anyhow::Result<()> {
    let mut answer = while_waiting(asked.query(query, format)).await?;
    if let Some(notice) = answer.notice {
        tell(notice);
    }
    let mut out = pager::output(format);
    while let Some(piece) = answer.pieces.next().await {
        if out.show(&piece?)?.is_break() {
            break;
        }
    }
    Ok(())
}
