/**
 * ScoreQueue: those who wait for a score, and which of them are served together.
 *
 * Hundreds of thousands may wait at once, and a run takes a handful of them: it is found without going through the others.
 */
import type { Adapter } from "./Adapters.ts"
import * as ScoreProgram from "./ScoreProgram.ts"
import type { Request } from "./Scorer.ts"

/** Someone who waits. */
export interface Waiting {
  readonly request: Request
  /** Since when, in milliseconds. */
  readonly since: number
}

export interface ScoreQueue<Job extends Waiting> {
  readonly size: () => number
  /** The tokens of all that wait. */
  readonly tokens: () => number
  readonly add: (job: Job) => void
  /** Gives up the place of one who may be there. */
  readonly leave: (job: Job) => void
  /** Takes those of one adapter, kind, form and temperature that fit into a run, alike in length, out of the queue. */
  readonly take: (now: number) => ReadonlyArray<Job>
}

/** Milliseconds after which a request is served before longer ones. */
const overdue = 2000

/** Who can be served together; some may have left the queue. */
interface Group<Job> {
  readonly jobs: Array<Job>
  sorted: boolean
}

const lengthOf = ({ request }: Waiting): number => request.ids.length

/** The first place among jobs, the longest first, from which on none is longer than `most`. */
const firstWithin = (jobs: ReadonlyArray<Waiting>, most: number): number => {
  let [low, high] = [0, jobs.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (lengthOf(jobs[middle]!) > most) low = middle + 1
    else high = middle
  }
  return low
}

/** A queue for runs of at most `maxTokens` tokens, padding included (one longer row is taken alone). */
export const make = <Job extends Waiting>(maxTokens: number): ScoreQueue<Job> => {
  // In the order in which they came.
  const waiting = new Set<Job>()
  const groups = new Map<Adapter | undefined, Map<string, Group<Job>>>()
  let tokens = 0

  const groupOf = ({ adapter, ids, kind, temperature = 1 }: Request): Group<Job> => {
    const of = groups.get(adapter) ?? new Map<string, Group<Job>>()
    groups.set(adapter, of)
    const key = `${kind} ${ScoreProgram.formOf(ids)} ${temperature}`
    const group = of.get(key) ?? { jobs: [], sorted: true }
    of.set(key, group)
    return group
  }
  const remove = (job: Job): void => {
    if (!waiting.delete(job)) return
    tokens -= lengthOf(job)
    if (waiting.size === 0) groups.clear()
  }

  return {
    size: () => waiting.size,
    tokens: () => tokens,
    add: (job) => {
      const group = groupOf(job.request)
      waiting.add(job)
      tokens += lengthOf(job)
      group.jobs.push(job)
      group.sorted = false
    },
    leave: remove,
    take: (now) => {
      const [oldest] = waiting
      if (oldest === undefined) return []
      const group = groupOf(oldest.request)
      const { jobs } = group
      // The longest first: what the runtime takes for them serves all others, and it gives nothing back.
      if (!group.sorted) jobs.sort((a, b) => lengthOf(b) - lengthOf(a))
      group.sorted = true
      const from = now - oldest.since > overdue ? firstWithin(jobs, lengthOf(oldest)) : 0
      const taken: Array<Job> = []
      let end = from
      for (; end < jobs.length; end++) {
        const job = jobs[end]!
        if (!waiting.has(job)) continue
        if (taken.length > 0 && (taken.length + 1) * lengthOf(taken[0]!) > maxTokens) break
        taken.push(job)
      }
      jobs.splice(from, end - from)
      taken.forEach(remove)
      return taken
    }
  }
}
