use hearken_data::StopReason;
use hearken_tensor::draw::Drawn;

use super::*;
use crate::request::SamplingRequest;
use crate::sampling::Sampling;
use crate::sequence::{Extent, QueuedPart, Terms};
use crate::stop::StopRules;
use crate::wishes::Wishes;

const PAGE_LEN: usize = 4;

fn options(batch_rows_max: usize, prefill_tokens_per_step: usize) -> EngineOptions {
    EngineOptions {
        batch_rows_max,
        prefill_tokens_per_step,
        page_len: PAGE_LEN,
        cache_bytes: 0,
        reserved_tokens: usize::MAX,
    }
}

fn request(prompt: &[u32], samples: usize) -> SamplingRequest {
    SamplingRequest { prompt_ids: prompt.to_vec(), samples, seed: 0 }
}

fn queue(requests: &[SamplingRequest], new_tokens: usize) -> VecDeque<Queued<'static, ()>> {
    growing_queue(requests, new_tokens, usize::MAX)
}

fn growing_queue(
    requests: &[SamplingRequest],
    new_tokens: usize,
    reserved: usize,
) -> VecDeque<Queued<'static, ()>> {
    let sampling = Sampling::plain(new_tokens);
    let rules = StopRules::new(&sampling, None, &[]).unwrap();
    let wishes = Wishes::default();
    let terms = Arc::new(Terms { sampling, rules, wishes });
    let queued = |(index, request): (usize, &SamplingRequest)| {
        let (prompt, terms) = (request.prompt_ids.len(), Arc::clone(&terms));
        let cut_off = StopReason::Length;
        let extent = Extent { prompt, new_tokens, cut_off, reserved, page_len: PAGE_LEN };
        let part = QueuedPart::SamplesFrom(0);
        Queued { index, request: Arc::new(request.clone()), terms, extent, part }
    };
    requests.iter().enumerate().map(queued).collect()
}

/// Pages that a sequence writes to belong to it alone; full pages of its prompt may be shared.
fn check_owners(scheduler: &Scheduler<'_, ()>) {
    let mut written: Vec<u32> = Vec::new();
    for sequence in &scheduler.running {
        let next = sequence.next_token().1 as usize;
        written.extend(&sequence.pages[next / PAGE_LEN..]);
    }
    let n = written.len();
    written.sort_unstable();
    written.dedup();
    assert_eq!(written.len(), n, "two sequences write to one page");
}

/// Runs everything on logits that do not matter; gives the tokens of each step.
fn run(scheduler: &mut Scheduler<'_, ()>) -> Vec<usize> {
    let mut sizes = Vec::new();
    let row = Arc::new(());
    while !scheduler.is_done() {
        assert!(sizes.len() < 10_000, "no progress");
        scheduler.admit();
        check_owners(scheduler);
        let chunks = scheduler.plan_prefill();
        let prefill: usize = chunks.iter().map(|chunk| chunk.positions.len()).sum();
        assert!(prefill <= scheduler.options.prefill_tokens_per_step);
        assert!(scheduler.running.len() <= scheduler.options.batch_rows_max);
        sizes.push(prefill + scheduler.running.len());
        let ended = chunks.iter().filter(|chunk| chunk.completes);
        scheduler.start(ended.map(|chunk| (chunk.prompt, Arc::clone(&row))));
        for sequence in &mut scheduler.running {
            let _ = sequence.wanted();
            sequence.take(Ok(Drawn { id: 1, logprob: 0.0, report: None }));
            sequence.accept().unwrap();
        }
        scheduler.retire();
    }
    sizes
}

#[test]
fn everything_ends_and_every_page_returns() {
    let prompts: Vec<Vec<u32>> = (1..12).map(|n| (0..n).collect()).collect();
    for samples in [1, 2, 5] {
        for new_tokens in [1, 3, 9] {
            for (rows, budget) in [(1, 1), (3, 2), (64, 1000)] {
                let requests: Vec<SamplingRequest> =
                    prompts.iter().map(|p| request(p, samples)).collect();
                for reserved in [1, 2, usize::MAX] {
                    let mut queued = growing_queue(&requests, new_tokens, reserved);
                    let least = queued.iter().map(pages_needed).max().unwrap();
                    let most = pages_of_use(queued.make_contiguous(), rows);
                    for pages in [least, least + 1, most] {
                        let queued = growing_queue(&requests, new_tokens, reserved);
                        let mut scheduler = Scheduler::new(queued, pages, options(rows, budget));
                        let sizes = run(&mut scheduler);
                        assert_eq!(scheduler.pool.available(), pages);
                        assert!(!sizes.is_empty());
                        let may_give_way = reserved < new_tokens && pages < most;
                        assert!(may_give_way || scheduler.preempted == 0);
                    }
                }
            }
        }
    }
}

#[test]
fn what_entered_last_gives_way_and_enters_again() {
    let requests = [request(&[1, 2, 3], 1), request(&[4, 5, 6], 2)];
    let mut scheduler = Scheduler::new(growing_queue(&requests, 6, 1), 4, options(8, 100));
    let row = Arc::new(());
    let mut running: Vec<Vec<(usize, usize)>> = Vec::new();
    while !scheduler.is_done() {
        scheduler.admit();
        check_owners(&scheduler);
        let chunks = scheduler.plan_prefill();
        let ended = chunks.iter().filter(|chunk| chunk.completes);
        scheduler.start(ended.map(|chunk| (chunk.prompt, Arc::clone(&row))));
        for sequence in &mut scheduler.running {
            let _ = sequence.wanted();
            sequence.take(Ok(Drawn { id: 1, logprob: 0.0, report: None }));
            sequence.accept().unwrap();
        }
        running.push(scheduler.running.iter().map(|one| (one.request, one.sample)).collect());
        assert!(scheduler.retire().iter().all(|ended| ended.ids.len() == 6));
    }
    // A page holds four positions: at the fifth three sequences need six pages, of which there are
    // four.
    let (all, first_two) = (vec![(0, 0), (1, 0), (1, 1)], vec![(0, 0), (1, 0)]);
    assert_eq!(running[..3], [all.clone(), all, first_two]);
    assert_eq!((scheduler.preempted, scheduler.pool.available()), (1, 4));
}

/// With the pages that are said to be of use, only rows limit who enters.
#[test]
fn the_pages_of_use_are_enough() {
    let requests: Vec<SamplingRequest> =
        (1..9_u32).map(|n| request(&(100 * n..101 * n + 5).collect::<Vec<_>>(), 3)).collect();
    for rows in [1, 5, 24, 100] {
        let mut queue = queue(&requests, 7);
        let pages = pages_of_use(queue.make_contiguous(), rows);
        let mut scheduler = Scheduler::new(queue, pages, options(rows, 1000));
        scheduler.admit();
        let entered: usize = scheduler.prompts.iter().map(|prompt| prompt.waiting.len()).sum();
        assert_eq!(entered, rows.min(24));
    }
}

#[test]
fn a_prompt_runs_once_for_all_of_its_samples() {
    let requests = [request(&[1, 2, 3, 4, 5, 6], 4)];
    for rows in [1, 4] {
        let mut queue = queue(&requests, 3);
        let pages = pages_of_use(queue.make_contiguous(), rows);
        let mut scheduler = Scheduler::new(queue, pages, options(rows, 100));
        let sizes = run(&mut scheduler);
        // The last of three tokens does not run.
        assert_eq!(sizes.iter().sum::<usize>(), 6 + 4 * 2);
    }
}

#[test]
fn samples_share_full_pages_and_copy_the_partial_one() {
    let requests = [request(&[1, 2, 3, 4, 5, 6], 3)];
    let mut scheduler = Scheduler::new(queue(&requests, 3), 6, options(8, 100));
    scheduler.admit();
    let chunks = scheduler.plan_prefill();
    assert_eq!(chunks, [Chunk { prompt: 0, positions: 0..6, completes: true }]);
    let copies = scheduler.start([(0, Arc::new(()))]);
    let pages: Vec<&[u32]> = scheduler.running.iter().map(|s| s.pages.as_slice()).collect();
    assert!(pages.iter().all(|own| own.len() == 2 && own[0] == pages[0][0]));
    let copy = |to: usize| PageCopy { from: pages[0][1], to: pages[to][1] };
    assert_eq!(copies, [copy(1), copy(2)]);
}

#[test]
fn prompts_that_begin_alike_run_their_common_pages_once() {
    let long: Vec<u32> = (0..20).collect();
    let other = [&long[..13], &[50, 51]].concat();
    let requests = [request(&long, 1), request(&other, 1), request(&long, 1)];
    for budget in [3, 1000] {
        let mut queue = queue(&requests, 1);
        let pages = pages_of_use(queue.make_contiguous(), 8);
        let mut scheduler = Scheduler::new(queue, pages, options(8, budget));
        let sizes = run(&mut scheduler);
        // 12 of 15 are shared with the first, and 16 of 20: the last token always runs.
        assert_eq!(sizes.iter().sum::<usize>(), 20 + 3 + 4);
    }
}

/// A page is filled no later than in the step that first reads it.
#[test]
fn shared_pages_are_filled_before_they_are_read() {
    let long: Vec<u32> = (0..20).collect();
    let requests = [request(&long, 1), request(&long, 1)];
    let mut scheduler = Scheduler::new(queue(&requests, 1), 40, options(8, 7));
    scheduler.admit();
    let mut steps = Vec::new();
    for _ in 0..4 {
        let chunks = scheduler.plan_prefill();
        steps.push(chunks.into_iter().map(|c| (c.prompt, c.positions)).collect::<Vec<_>>());
    }
    let expected =
        [vec![(0, 0..7)], vec![(0, 7..14)], vec![(0, 14..20), (1, 16..17)], vec![(1, 17..20)]];
    assert_eq!(steps, expected);
}

#[test]
fn a_finished_sequence_makes_room_at_once() {
    let requests = [request(&[1], 1), request(&[2], 1), request(&[3], 1)];
    let mut scheduler = Scheduler::new(queue(&requests, 2), 3, options(2, 100));
    // Two prompts; their two first tokens; the third prompt; its first token.
    assert_eq!(run(&mut scheduler), [2, 2, 1, 1]);
}
