//! A leader on a real socket: its log answers fetches by the rules of KIP-595, and tells its state over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use hot_tier::{PartitionLog, ReadLimits};
use model::{Offset, TopicPartition};
use parking_lot::Mutex;
use protocol::frame::{self, FrameSplitter, RequestHeader};
use protocol::messages::fetch_request::FetchPartition;
use protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use protocol::messages::{FetchRequest, FetchResponse};
use protocol::{ApiKey, ErrorCode, Records};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::alignment;
use crate::config::HostPort;
use crate::partition::LeaderState;

/// A partition that is led.
#[derive(Clone)]
pub(super) struct Led {
    pub(super) log: Arc<PartitionLog>,
    pub(super) leader_epoch: i32,
    /// Changes what is sent.
    pub(super) tamper: Option<fn(&mut [u8])>,
}

/// What the leader's sockets share.
#[derive(Default)]
pub(super) struct Leader {
    pub(super) led: Mutex<BTreeMap<TopicPartition, Led>>,
    /// Offsets that a follower has told of, by partition.
    pub(super) told: Mutex<BTreeMap<TopicPartition, Offset>>,
    pub(super) connections: AtomicU64,
    pub(super) refusals: AtomicU64,
}

/// Its sockets; they close with it.
pub(super) struct Listening {
    pub(super) address: HostPort,
    pub(super) internal: HostPort,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn host_port(address: SocketAddr) -> HostPort {
    HostPort { host: address.ip().to_string(), port: address.port() }
}

impl Leader {
    pub(super) fn lead(&self, log: &Arc<PartitionLog>, leader_epoch: i32) {
        let led = Led { log: Arc::clone(log), leader_epoch, tamper: None };
        self.led.lock().insert(log.id(), led);
    }

    pub(super) fn tamper(&self, id: TopicPartition, tamper: Option<fn(&mut [u8])>) {
        self.led.lock().get_mut(&id).unwrap().tamper = tamper;
    }

    pub(super) async fn listen(self: &Arc<Self>) -> Listening {
        let kafka = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, internal) = (host_port(kafka.local_addr().unwrap()), host_port(http.local_addr().unwrap()));
        let leader = Arc::clone(self);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = kafka.accept().await {
                leader.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(Arc::clone(&leader), stream));
            }
        });
        let leader = Arc::clone(self);
        let answer = move |question: Bytes| async move {
            let question: alignment::Question = serde_json::from_slice(&question).unwrap();
            Json(leader.state(&question))
        };
        let routes = Router::new().route(alignment::PATH, post(answer));
        let telling = tokio::spawn(async move { axum::serve(http, routes).await.unwrap() });
        Listening { address, internal, tasks: vec![accepting, telling] }
    }

    fn state(&self, question: &alignment::Question) -> alignment::Answer {
        let log = Arc::clone(&self.led.lock()[&question.id()].log);
        let bootstrap = log.bootstrap().unwrap();
        LeaderState { log_end: log.log_end(), epochs: log.epochs(), bootstrap }.into()
    }

    async fn answer(&self, request: FetchRequest) -> FetchResponse {
        assert_eq!((request.replica_state.replica_id, request.replica_state.replica_epoch), (2, 77));
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap());
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let (responses, is_news) = self.look(&request);
            if is_news || tokio::time::Instant::now() >= deadline {
                return FetchResponse { responses, ..FetchResponse::default() };
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn look(&self, request: &FetchRequest) -> (Vec<FetchableTopicResponse>, bool) {
        let mut is_news = false;
        let mut look = |topic_id: uuid::Uuid, asked: &FetchPartition| {
            let id = TopicPartition { topic_id: model::TopicId(topic_id), partition: asked.partition };
            self.told.lock().insert(id, asked.fetch_offset);
            let data = match self.led.lock().get(&id) {
                Some(led) => led.answer(asked),
                None => refusal(ErrorCode::NotLeaderOrFollower),
            };
            self.refusals.fetch_add(u64::from(data.error_code != 0), Ordering::Relaxed);
            let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
            is_news |= data.error_code != 0 || data.diverging_epoch.end_offset >= 0 || has_records;
            PartitionData { partition_index: asked.partition, ..data }
        };
        let topics = request.topics.iter().map(|topic| FetchableTopicResponse {
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(|asked| look(topic.topic_id, asked)).collect(),
            ..FetchableTopicResponse::default()
        });
        (topics.collect(), is_news)
    }
}

fn refusal(code: ErrorCode) -> PartitionData {
    PartitionData { error_code: code.code(), high_watermark: -1, ..PartitionData::default() }
}

impl Led {
    fn answer(&self, asked: &FetchPartition) -> PartitionData {
        let log = &self.log;
        if asked.current_leader_epoch != self.leader_epoch {
            let is_old = asked.current_leader_epoch < self.leader_epoch;
            return refusal(if is_old { ErrorCode::FencedLeaderEpoch } else { ErrorCode::UnknownLeaderEpoch });
        }
        let (last, offset) = (asked.last_fetched_epoch, asked.fetch_offset);
        let (epoch, end) = log.end_offset_for_epoch(last);
        if last >= 0 && epoch < 0 {
            return refusal(ErrorCode::OffsetOutOfRange);
        }
        if last >= 0 && (epoch < last || end < offset) {
            let mut data = PartitionData::default();
            (data.diverging_epoch.epoch, data.diverging_epoch.end_offset) = (epoch, end);
            return data;
        }
        if offset > log.log_end() || offset < log.local_start() {
            return refusal(ErrorCode::OffsetOutOfRange);
        }
        let limits = ReadLimits {
            max_bytes: usize::try_from(asked.partition_max_bytes).unwrap(),
            upper: i64::MAX,
            at_least_one: true,
        };
        let mut records = log.read(offset, limits).unwrap().records.to_vec();
        if let Some(tamper) = self.tamper {
            tamper(&mut records);
        }
        PartitionData {
            high_watermark: log.flushed_end(),
            log_start_offset: log.log_start(),
            records: Some(Records::from(Bytes::from(records))),
            ..PartitionData::default()
        }
    }
}

async fn serve(leader: Arc<Leader>, mut stream: TcpStream) {
    let (splitter, mut buffer) = (FrameSplitter::new(1 << 20), BytesMut::new());
    loop {
        let Some(request) = splitter.next_frame(&mut buffer).unwrap() else {
            match stream.read_buf(&mut buffer).await {
                Ok(1..) => continue,
                _ => return,
            }
        };
        let (header, mut body) = RequestHeader::decode(request).unwrap();
        assert_eq!(header.key, ApiKey::Fetch);
        let request = FetchRequest::decode(&mut body, header.version).unwrap();
        let response = leader.answer(request).await;
        let frame = frame::response(ApiKey::Fetch, header.version, header.correlation_id, &response).unwrap();
        for segment in &frame.segments {
            if stream.write_all(segment).await.is_err() {
                return;
            }
        }
    }
}
