//! `firn group`: which consumer groups there are, and how far they have read.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::client::Client;
use crate::client::cluster::LATEST;
use crate::client::groups::{GroupView, assigned_partitions};
use crate::connect::ViewArgs;
use crate::output::{print_json, print_line, table};

/// Arguments of `firn group`.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List all groups.
    List(ViewArgs),
    /// Show a group's members, committed offsets and lag.
    Describe(DescribeArgs),
}

#[derive(Debug, Args)]
struct DescribeArgs {
    /// Name of the group.
    group: String,
    #[command(flatten)]
    view: ViewArgs,
}

/// Runs the command.
pub(crate) async fn run(args: GroupArgs) -> anyhow::Result<()> {
    match args.command {
        GroupCommand::List(args) => list(args).await,
        GroupCommand::Describe(args) => describe(args).await,
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    state: String,
    protocol_type: String,
}

async fn list(args: ViewArgs) -> anyhow::Result<()> {
    let groups = args.connect.client().groups().await?.into_iter().map(|group| Listed {
        group: group.group_id.into(),
        state: group.group_state.into(),
        protocol_type: group.protocol_type.into(),
    });
    let groups: Vec<Listed> = groups.collect();
    if args.json {
        return Ok(print_json(&groups)?);
    }
    let mut shown = table(&["group", "state", "protocol"]);
    for group in groups {
        shown.add_row([group.group, group.state, group.protocol_type]);
    }
    Ok(print_line(shown)?)
}

#[derive(Debug, Serialize)]
struct Described {
    group: String,
    state: String,
    protocol_type: String,
    protocol: String,
    coordinator: String,
    members: Vec<Member>,
    offsets: Vec<PartitionOffsets>,
}

#[derive(Debug, Serialize)]
struct Member {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    assigned: BTreeMap<String, Vec<i32>>,
}

/// `committed` is null for an assigned partition of which nothing is committed, `lag` too then; `log_end` is null for a
/// partition that does not exist any more.
#[derive(Debug, Serialize)]
struct PartitionOffsets {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    log_end: Option<i64>,
    lag: Option<i64>,
    member_id: Option<String>,
}

async fn describe(args: DescribeArgs) -> anyhow::Result<()> {
    let mut client = args.view.connect.client();
    let view = client.group(&args.group).await?;
    if view.group.group_state == "Dead" {
        bail!("there is no group {:?}; `firn group list` shows those that exist", args.group);
    }
    let described = describe_view(&mut client, &args.group, view).await?;
    if args.view.json { Ok(print_json(&described)?) } else { print_group(&described) }
}

async fn describe_view(client: &mut Client, name: &str, view: GroupView) -> anyhow::Result<Described> {
    let GroupView { group, coordinator, committed } = view;
    let members = group.members.into_iter().map(|member| Member {
        member_id: member.member_id.into(),
        instance_id: member.group_instance_id.map(String::from),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        assigned: assigned_partitions(member.member_assignment),
    });
    let members: Vec<Member> = members.collect();

    let mut rows: BTreeMap<(String, i32), (Option<i64>, Option<String>)> = BTreeMap::new();
    for (topic, partitions) in committed {
        for (partition, offset) in partitions {
            rows.entry((topic.clone(), partition)).or_default().0 = Some(offset);
        }
    }
    for member in &members {
        for (topic, partitions) in &member.assigned {
            for &partition in partitions {
                rows.entry((topic.clone(), partition)).or_default().1 = Some(member.member_id.clone());
            }
        }
    }
    let ends = log_ends(client, rows.keys()).await?;
    let offsets = rows.into_iter().map(|((topic, partition), (committed, member_id))| {
        let log_end = ends.get(&topic).and_then(|ends| ends.get(&partition)).copied();
        let lag = committed.zip(log_end).map(|(committed, end)| end.saturating_sub(committed).max(0));
        PartitionOffsets { topic, partition, committed, log_end, lag, member_id }
    });
    Ok(Described {
        group: name.to_owned(),
        state: group.group_state.into(),
        protocol_type: group.protocol_type.into(),
        protocol: group.protocol_data.into(),
        coordinator: coordinator.to_string(),
        members,
        offsets: offsets.collect(),
    })
}

async fn log_ends(
    client: &mut Client,
    partitions: impl Iterator<Item = &(String, i32)>,
) -> anyhow::Result<BTreeMap<String, BTreeMap<i32, i64>>> {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        by_topic.entry(topic).or_default().push(*partition);
    }
    let existing = client.all_topics().await?;
    let mut ends = BTreeMap::new();
    for (topic, mut partitions) in by_topic {
        let Some(view) = existing.topics.get(topic) else { continue };
        partitions.retain(|partition| view.partitions.contains_key(partition));
        ends.insert(topic.to_owned(), client.offsets(topic, &partitions, LATEST).await?);
    }
    Ok(ends)
}

fn print_group(group: &Described) -> anyhow::Result<()> {
    print_line(format_args!("group {}, state {}, coordinator {}", group.group, group.state, group.coordinator))?;
    let or_dash = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut shown = table(&["topic", ">partition", ">committed", ">log end", ">lag", "member"]);
    for row in &group.offsets {
        let (committed, end, lag) = (or_dash(row.committed), or_dash(row.log_end), or_dash(row.lag));
        let member = row.member_id.clone().unwrap_or_else(|| "-".to_owned());
        shown.add_row([row.topic.clone(), row.partition.to_string(), committed, end, lag, member]);
    }
    print_line(shown)?;
    if group.members.is_empty() {
        return Ok(print_line("no members")?);
    }
    let mut shown = table(&["member", "instance", "client", "host", "assigned"]);
    for member in &group.members {
        let list = |(topic, partitions): (&String, &Vec<i32>)| {
            let partitions: Vec<_> = partitions.iter().map(i32::to_string).collect();
            format!("{topic} [{}]", partitions.join(","))
        };
        shown.add_row([
            member.member_id.clone(),
            member.instance_id.clone().unwrap_or_else(|| "-".to_owned()),
            member.client_id.clone(),
            member.client_host.clone(),
            member.assigned.iter().map(list).collect::<Vec<_>>().join(", "),
        ]);
    }
    Ok(print_line(shown)?)
}
