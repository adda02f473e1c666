//! `firn cluster check`: what is wrong, in plain words, and what to do about it.
//!
//! Each file beside this one examines one thing and knows nothing of the others: [`brokers`], [`disks`], [`quorum`],
//! [`partitions`], [`archive`]; [`causes`] lists the consequences of a finding
//! below it. A threat to data or service now is a problem (exit status 1); one that would show at the next loss is a note.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use crate::client::overview::Overview;
use crate::client::{Client, Endpoint};
use crate::connect::ConnectArgs;
use crate::output::{count, print_json, print_line};

mod archive;
mod brokers;
mod causes;
mod disks;
mod partitions;
mod quorum;

use causes::{Cause, grouped};

/// Most places that a finding lists for people; `--json` has all.
const SHOWN: usize = 8;
/// The same for one that follows from another.
const SHOWN_BELOW: usize = 3;
/// How long a broker may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Arguments of `firn cluster check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Admin ports whose archives are looked at too, separated by commas.
    #[arg(long, env = "FIRN_ADMIN_ADDRESS", value_name = "HOST:PORT", value_delimiter = ',')]
    admin: Vec<Endpoint>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    /// Something does not work, or is one loss from not working.
    Problem,
    /// It works; there is something to improve.
    Note,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    severity: Severity,
    /// What is wrong, and what that means.
    what: String,
    /// Where: partitions, topics.
    #[serde(rename = "where", skip_serializing_if = "Vec::is_empty")]
    places: Vec<String>,
    /// What to do.
    advice: String,
    /// Its consequences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consequences: Vec<Finding>,
    /// The cause that this is of other findings, if any.
    #[serde(skip)]
    is: Option<Cause>,
    /// The causes of this.
    #[serde(skip)]
    because: BTreeSet<Cause>,
}

impl Finding {
    fn problem(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Problem,
            what: what.into(),
            places: Vec::new(),
            advice: advice.into(),
            consequences: Vec::new(),
            is: None,
            because: BTreeSet::new(),
        }
    }

    fn note(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { severity: Severity::Note, ..Finding::problem(what, advice) }
    }

    /// Says that this is the cause of others.
    fn cause(self, cause: Cause) -> Self {
        Finding { is: Some(cause), ..self }
    }

    /// Says that this follows from the loss of brokers.
    fn because_of(mut self, brokers: &[i32]) -> Self {
        self.because.extend(brokers.iter().copied().map(Cause::Broker));
        self
    }

    fn at(mut self, places: Vec<String>) -> Self {
        self.places = places;
        self
    }
}

#[derive(Debug, Serialize)]
struct Report {
    cluster_id: String,
    healthy: bool,
    findings: Vec<Finding>,
}

/// Runs the command.
pub(crate) async fn run(args: CheckArgs) -> anyhow::Result<()> {
    let mut client = args.connect.client();
    let overview = client.overview().await?;
    let moving = client.reassignments().await?;
    let mut findings = quorum::examine(&overview);
    let (disks, unopened) = disks::ask(&client, &overview).await;
    // A broker that is fenced for its disk is not down.
    let is_impaired = |id: i32| disks.get(&id).is_some_and(|state| *state != disks::DiskState::Sound);
    findings.extend(brokers::examine(&overview, is_impaired));
    findings.extend(disks::examine(&disks));
    findings.extend(disks::examine_unopened(unopened));
    findings.extend(unreachable_brokers(&client, &overview).await);
    findings.extend(partitions::examine(&overview, &moving));
    for admin in &args.admin {
        findings.extend(archive::examine(admin).await);
    }
    let mut findings = grouped(findings);
    findings.sort_by_key(|finding| finding.severity);
    let problems = findings.iter().filter(|finding| finding.severity == Severity::Problem).count();
    let report = Report { cluster_id: overview.cluster_id.clone(), healthy: problems == 0, findings };
    if args.json {
        print_json(&report)?;
    } else {
        print(&overview, &report)?;
    }
    if problems > 0 {
        bail!("the cluster has {}", count(problems, "problem"));
    }
    Ok(())
}

/// Brokers that count as alive, but do not answer here.
async fn unreachable_brokers(client: &Client, overview: &Overview) -> Vec<Finding> {
    let mut findings = Vec::new();
    for broker in overview.brokers.iter().filter(|broker| !broker.is_fenced) {
        if let Err(error) = client.another().ping(&broker.endpoint(), ANSWER_WITHIN).await {
            findings.push(Finding::problem(
                format!("broker {} counts as alive, but does not answer from here: {error}", broker.id),
                "If its process hangs, its log says why; end the process and start it again. If only this machine cannot \
                 reach it, look at the network and at the address it advertises (--advertise).",
            )
            .cause(Cause::Broker(broker.id)));
        }
    }
    findings
}

fn print(overview: &Overview, report: &Report) -> anyhow::Result<()> {
    // Notes can wait until nothing is wrong.
    let shown = report.findings.iter().filter(|finding| report.healthy || finding.severity == Severity::Problem);
    for finding in shown {
        let title = match finding.severity {
            Severity::Problem => "PROBLEM",
            Severity::Note => "note",
        };
        print_line(format_args!("{title}: {}", finding.what))?;
        print_places(finding, SHOWN)?;
        print_line(format_args!("  → {}", finding.advice))?;
        for consequence in &finding.consequences {
            print_line(format_args!("  therefore {}", consequence.what))?;
            print_places(consequence, SHOWN_BELOW)?;
        }
    }
    let notes = report.findings.iter().filter(|finding| finding.severity == Severity::Note).count();
    if !report.healthy && notes > 0 {
        print_line(format_args!("{} not shown while there are problems (--json has all)", notes_are(notes)))?;
    }
    if report.healthy {
        let (brokers, partitions) = (overview.brokers.len(), overview.partitions().count());
        print_line(format_args!("no problems: {}, {}", count(brokers, "broker"), count(partitions, "partition")))?;
    }
    Ok(())
}

fn print_places(finding: &Finding, shown: usize) -> anyhow::Result<()> {
    for place in finding.places.iter().take(shown) {
        print_line(format_args!("    {place}"))?;
    }
    if finding.places.len() > shown {
        print_line(format_args!("    … and {} more (--json lists all)", finding.places.len() - shown))?;
    }
    Ok(())
}

fn notes_are(number: usize) -> String {
    if number == 1 { "1 note is".to_owned() } else { format!("{number} notes are") }
}

#[cfg(test)]
mod tests;
