//! Who carries: reads what was stored, writes what is to be sent, sends it, tries again.

use std::collections::HashSet;
use std::time::Duration;

use hearken_store::{Document, Expected};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{Delivery, Webhook, all, signature};
use crate::distribute;
use crate::error::AppError;
use crate::state::AppState;

/// How often it looks, when nobody rings.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long another process leaves a delivery alone that this one has in hand.
const HOLD_MS: i64 = 60_000;
/// Times a delivery is tried: with the pauses below, over a day and four hours.
const ATTEMPTS: u32 = 20;
/// How long a delivery that was given up is kept.
const KEPT_MS: i64 = 30 * 24 * 3_600_000;
/// Deliveries that wait for one webhook before it hears of more.
const WAITING_MAX: usize = 1_000;
/// Judgements that are read at once.
const CHUNK: usize = 200;

/// The running courier.
pub(crate) struct Courier {
    task: JoinHandle<()>,
}

impl Courier {
    /// Stops it. What it has in hand is tried again later.
    pub(crate) async fn stop(self) {
        self.task.abort();
        // Aborted or done: both end it.
        let _ = self.task.await;
    }
}

/// Starts the courier.
pub(crate) fn start(state: &AppState) -> Courier {
    let state = state.clone();
    Courier { task: tokio::spawn(async move { run(state).await }) }
}

async fn run(state: AppState) {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .http_status_as_error(false)
            .build(),
    );
    loop {
        // One look after a pause serves all judgements of the pause.
        let _ = tokio::time::timeout(INTERVAL, state.bell().rung()).await;
        if let Err(error) = round(&state, &agent).await {
            tracing::warn!("webhooks: {error}");
        }
        tokio::time::sleep(INTERVAL / 8).await;
    }
}

async fn round(state: &AppState, agent: &ureq::Agent) -> Result<(), AppError> {
    let webhooks = state.blocking(|state| all(state.store())).await?;
    let mut hands = tokio::task::JoinSet::new();
    for webhook in webhooks {
        let (state, agent) = (state.clone(), agent.clone());
        hands.spawn_blocking(move || {
            write_deliveries(&state, &webhook).and_then(|()| send_due(&state, &webhook, &agent))
        });
    }
    while let Some(done) = hands.join_next().await {
        if let Ok(Err(error)) = done {
            tracing::warn!("webhooks: {error}");
        }
    }
    Ok(())
}

/// The webhook's deliveries, with their documents.
fn deliveries(state: &AppState, webhook: &Webhook) -> Result<Vec<(Document, Delivery)>, AppError> {
    let documents = state.store().documents("delivery")?.into_iter();
    let parsed = documents.filter_map(|document| {
        let delivery: Delivery = serde_json::from_value(document.body.clone()).ok()?;
        (delivery.webhook == webhook.id).then_some((document, delivery))
    });
    Ok(parsed.collect())
}

/// Makes deliveries of the judgements that the webhook has not heard of.
fn write_deliveries(state: &AppState, webhook: &Webhook) -> Result<(), AppError> {
    let store = state.store();
    let waiting = deliveries(state, webhook)?;
    for (document, _) in waiting.iter().filter(|(_, delivery)| is_expired(delivery, state.now())) {
        store.delete_document("delivery", &document.key)?;
    }
    let mut count = waiting.iter().filter(|(_, delivery)| !delivery.given_up).count();
    while count < WAITING_MAX {
        let Some(cursor) = store.document("webhook-place", &webhook.id)? else { break };
        let after = cursor.body["place"].as_u64().unwrap_or(0);
        let judgements = store.judgements(after, CHUNK)?;
        let Some(last) = judgements.last().map(|placed| placed.place) else { break };
        let mut completed = HashSet::new();
        let wants_items = webhook.events.iter().any(|event| event == "item.completed");
        if wants_items {
            // Another process may have stored the judgement that completes an item.
            distribute::look_again(state)?;
        }
        for placed in &judgements {
            let judgement = &placed.record;
            if webhook.events.iter().any(|event| event == "judgement.created") {
                let body = json!({"judgement": judgement});
                write(state, webhook, "judgement.created", &judgement.id, body)?;
                count += 1;
            }
            let is_new = judgement.revises.is_none() && !completed.contains(&judgement.item);
            if wants_items && is_new && distribute::is_complete(state, &judgement.item) {
                completed.insert(judgement.item.clone());
                let told = format!("{} {}", webhook.id, judgement.item);
                let body = json!({"at": state.now()});
                // Written once per webhook and item: an item is completed once.
                if store.put_document("webhook-item", &told, &body, Expected::Nothing)?.is_some() {
                    let body = json!({"item": judgement.item});
                    write(state, webhook, "item.completed", &judgement.item, body)?;
                    count += 1;
                }
            }
        }
        // Another process may have been faster; then it wrote the same deliveries.
        let place = json!({"place": last});
        let expected = Expected::Version(cursor.version);
        store.put_document("webhook-place", &webhook.id, &place, expected)?;
    }
    Ok(())
}

fn write(
    state: &AppState,
    webhook: &Webhook,
    event: &str,
    subject: &str,
    mut body: serde_json::Value,
) -> Result<(), AppError> {
    let id = format!("{} {event} {subject}", webhook.id);
    body["id"] = json!(id);
    body["event"] = json!(event);
    let delivery = Delivery {
        webhook: webhook.id.clone(),
        event: event.to_owned(),
        payload: body.to_string(),
        attempts: 0,
        next_at: state.now(),
        given_up: false,
        problem: String::new(),
    };
    state.store().put_document("delivery", &id, &json!(delivery), Expected::Nothing)?;
    Ok(())
}

fn send_due(state: &AppState, webhook: &Webhook, agent: &ureq::Agent) -> Result<(), AppError> {
    let mut due = deliveries(state, webhook)?;
    due.retain(|(_, delivery)| !delivery.given_up && delivery.next_at <= state.now());
    due.sort_by_key(|(_, delivery)| delivery.next_at);
    for (document, mut delivery) in due {
        let store = state.store();
        delivery.attempts += 1;
        delivery.next_at = state.now() + HOLD_MS;
        let expected = Expected::Version(document.version);
        let held = store.put_document("delivery", &document.key, &json!(delivery), expected)?;
        // Where it is another's by now, that one sends it.
        let Some(version) = held else { continue };
        match send(state, webhook, agent, &document.key, &delivery) {
            Ok(()) => {
                store.delete_document("delivery", &document.key)?;
            }
            Err(problem) => {
                tracing::warn!(webhook = webhook.id, "not delivered: {problem}");
                delivery.problem = problem;
                delivery.given_up = ATTEMPTS <= delivery.attempts;
                delivery.next_at = state.now() + pause_ms(delivery.attempts);
                let body = json!(delivery);
                store.put_document("delivery", &document.key, &body, Expected::Version(version))?;
                // Who does not answer once is not asked for the rest at once.
                break;
            }
        }
    }
    Ok(())
}

/// Whether a delivery was given up so long ago that nobody needs to see it.
fn is_expired(delivery: &Delivery, now: i64) -> bool {
    delivery.given_up && delivery.next_at + KEPT_MS < now
}

/// 2 s, 4 s, 8 s, …, at most 4 hours.
fn pause_ms(attempts: u32) -> i64 {
    (1_000_i64 << attempts.min(20)).min(4 * 3_600_000)
}

fn send(
    state: &AppState,
    webhook: &Webhook,
    agent: &ureq::Agent,
    id: &str,
    delivery: &Delivery,
) -> Result<(), String> {
    let sent_at_s = state.now() / 1000;
    let signature = signature(&webhook.secret, sent_at_s, &delivery.payload);
    let sent = agent
        .post(&webhook.url)
        .header("Content-Type", "application/json")
        .header("User-Agent", "hearken")
        .header("X-Hearken-Event", &delivery.event)
        .header("X-Hearken-Delivery", crate::codec::sha256_hex(id.as_bytes()))
        .header("X-Hearken-Timestamp", sent_at_s.to_string())
        .header("X-Hearken-Signature", format!("sha256={signature}"))
        .send(delivery.payload.as_bytes());
    let status = sent.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("the receiver answered {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A delivery that waits is never expired, however old.
    #[test]
    fn what_was_given_up_expires_after_thirty_days() {
        let delivery = |given_up| Delivery {
            webhook: "w".into(),
            event: "judgement.created".into(),
            payload: String::new(),
            attempts: ATTEMPTS,
            next_at: 1_000,
            given_up,
            problem: String::new(),
        };
        assert!(!is_expired(&delivery(true), 1_000 + KEPT_MS));
        assert!(is_expired(&delivery(true), 1_001 + KEPT_MS));
        assert!(!is_expired(&delivery(false), 1_001 + KEPT_MS));
    }

    #[test]
    fn pauses_double_and_stay_below_four_hours() {
        assert_eq!([1, 2, 3].map(pause_ms), [2_000, 4_000, 8_000]);
        assert_eq!(pause_ms(30), 14_400_000);
        let total: i64 = (1..ATTEMPTS).map(pause_ms).sum();
        assert!(24 * 3_600_000 < total, "{total}");
    }
}
