import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { Adapter } from "../../src/engine/Adapters.ts"
import type { Request } from "../../src/engine/Scorer.ts"
import * as ScoreQueue from "../../src/engine/ScoreQueue.ts"

interface Job extends ScoreQueue.Waiting {
  readonly name: number
}

const job = (
  name: number,
  length: number,
  { kind = "logprobs", since = 0, adapter, temperature }: Partial<Request & Job> = {}
): Job => ({
  name,
  since,
  request: {
    ids: Array<number>(length).fill(3),
    adapter,
    kind,
    at: [0],
    targets: [3],
    ...(temperature === undefined ? {} : { temperature })
  }
})

const lengths = (jobs: ReadonlyArray<Job>) => jobs.map(({ request }) => request.ids.length)

/** All runs of a queue, one after the other. */
const runs = (queue: ScoreQueue.ScoreQueue<Job>, now = 0): ReadonlyArray<ReadonlyArray<Job>> => {
  const found: Array<ReadonlyArray<Job>> = []
  while (queue.size() > 0) found.push(queue.take(now))
  return found
}

describe("those who wait for a score", () => {
  it("are served with others alike in length, the longest first", () => {
    const queue = ScoreQueue.make<Job>(12)
    for (const [i, length] of [3, 5, 2, 6, 20, 2].entries()) queue.add(job(i, length))
    expect(runs(queue).map(lengths)).toEqual([[20], [6, 5], [3, 2, 2]])
  })

  it("are served before longer ones once they have waited for long", () => {
    const queue = ScoreQueue.make<Job>(12)
    queue.add(job(0, 3))
    for (let i = 1; i < 4; i++) queue.add(job(i, 9, { since: 1000 }))
    queue.add(job(4, 2, { since: 1000 }))
    expect(lengths(queue.take(2001))).toEqual([3, 2])
    expect(lengths(queue.take(2001))).toEqual([9])
  })

  it("are served with others of the same adapter and temperature alone, which is 1 where none is given", () => {
    const queue = ScoreQueue.make<Job>(100)
    const adapter = {} as Adapter
    const asked = [
      {},
      { temperature: 0.5 },
      { adapter },
      { temperature: 1 },
      { adapter },
      { temperature: 0.5, adapter }
    ]
    asked.forEach((more, i) => queue.add(job(i, 3, more)))
    expect(runs(queue).map((run) => run.map(({ name }) => name))).toEqual([[0, 3], [1], [2, 4], [5]])
  })

  it("are served from the first that is not longer, of those that have waited for more than two seconds", () => {
    const served = (now: number) => {
      const queue = ScoreQueue.make<Job>(9)
      for (const [i, length] of [4, 9, 4, 7].entries()) queue.add(job(i, length))
      return lengths(queue.take(now))
    }
    expect(served(2000)).toEqual([9])
    expect(served(2001)).toEqual([4, 4])
  })

  it("count their tokens, once, until they are served or leave", () => {
    const queue = ScoreQueue.make<Job>(4)
    const [first, second] = [job(0, 3), job(1, 4)]
    queue.add(first)
    queue.add(second)
    expect([queue.size(), queue.tokens()]).toEqual([2, 7])
    queue.leave(second)
    queue.leave(second)
    expect([queue.size(), queue.tokens()]).toEqual([1, 3])
    expect(queue.take(0)).toEqual([first])
    queue.leave(first)
    expect([queue.size(), queue.tokens(), queue.take(0)]).toEqual([0, 0, []])
  })

  it("are served with others of their kind alone, each once, in runs that are not too large", () => {
    const asked = fc.record({
      length: fc.integer({ min: 1, max: 12 }),
      kind: fc.constantFrom<Request["kind"]>("logprobs", "score"),
      since: fc.integer({ min: 0, max: 100 }),
      leaves: fc.boolean()
    })
    fc.assert(
      fc.property(fc.array(asked), fc.constantFrom(0, 2050), (all, now) => {
        const queue = ScoreQueue.make<Job>(20)
        const jobs = all.map(({ kind, length, since }, i) => job(i, length, { kind, since }))
        jobs.forEach(queue.add)
        jobs.filter((_, i) => all[i]!.leaves).forEach(queue.leave)
        const served = runs(queue, now)
        expect(queue.tokens()).toBe(0)
        for (const run of served) {
          expect(new Set(run.map(({ request }) => request.kind)).size).toBe(1)
          expect(run.length === 1 || run.length * Math.max(...lengths(run)) <= 20).toBe(true)
        }
        const names = served.flat().map(({ name }) => name)
        const stayed = jobs.filter((_, i) => !all[i]!.leaves).map(({ name }) => name)
        expect(names.toSorted((a, b) => a - b)).toEqual(stayed)
      })
    )
  })

  it("are not gone through at every run", () => {
    let looks = 0
    const queue = ScoreQueue.make<Job>(8)
    const count = 2000
    for (let i = 0; i < count; i++) {
      const { request, ...rest } = job(i, 2)
      const ids = {
        get length() {
          return (looks++, 2)
        }
      } as unknown as ReadonlyArray<number>
      queue.add({ ...rest, request: { ...request, ids } })
    }
    expect(runs(queue)).toHaveLength(count / 4)
    expect(looks).toBeLessThan(20 * count)
  })
})
