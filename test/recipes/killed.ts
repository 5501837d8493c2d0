/**
 * A run over mocks in a process of its own, to be killed: `node killed.ts DIR`. Each answered call is a line in
 * `DIR.calls`; updates of the policy are remembered in its state folder, as the engine does.
 */
import { Effect, Stream } from "effect"
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Models } from "../../src/Models.ts"
import type { Policy } from "../../src/Policy.ts"
import { models, runIn } from "./Fixture.ts"

const dir = process.argv[2]!
const { service } = models()

const note = (call: string) => Effect.sync(() => appendFileSync(`${dir}.calls`, `${call}\n`))
const slow = <A, E>(call: string, self: Effect.Effect<A, E>) =>
  Effect.sleep(2).pipe(Effect.andThen(self), Effect.tap(note(call)))
const count = (stateDir: string) => join(stateDir, "updates")

const persistent = (name: string, policy: Policy["Service"]): Policy["Service"] => ({
  ...policy,
  sample: (request) => slow(`${name} ${request.seed} ${request.id}`, policy.sample(request)),
  choose: (id, context, options) => slow(`${name} ${id}`, policy.choose(id, context, options)),
  learn: (...args) => Stream.tap(policy.learn(...args), () => Effect.sleep(5)),
  restore: (stateDir) =>
    Effect.sync(() => (existsSync(count(stateDir)) ? Number(readFileSync(count(stateDir), "utf8")) : 0)),
  update: (rollouts, options) =>
    Effect.tap(policy.update(rollouts, options), () =>
      Effect.sync(() => {
        mkdirSync(options.stateDir, { recursive: true })
        writeFileSync(count(options.stateDir), String(options.iteration + 1))
        appendFileSync(`${dir}.calls`, `update ${options.iteration}\n`)
      })
    )
})

const killable: Models["Service"] = {
  ...service,
  base: persistent("base", service.base),
  policy: (name, from) => Effect.map(service.policy(name, from), (policy) => persistent(name, policy)),
  rewardModel: (name, from) =>
    Effect.map(service.rewardModel(name, from), (model) => ({
      ...model,
      score: (request) => slow(`score ${request.id} ${request.completion}`, model.score(request))
    }))
}

await Effect.runPromise(runIn(dir, models(), { service: killable }))
