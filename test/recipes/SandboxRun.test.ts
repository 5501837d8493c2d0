import { assert, describe, it } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Option } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Conclusion from "../../src/cli/Conclusion.ts"
import * as Plan from "../../src/cli/Plan.ts"
import { execute } from "../../src/cli/run.ts"
import type { Summary } from "../../src/recipes/Summary.ts"
import { MockModels } from "../../src/testing/index.ts"
import { workplace } from "../workplace.ts"

const none = Option.none()
const asked = {
  sandbox: true,
  model: none,
  prompts: none,
  constitution: none,
  out: none,
  seed: none,
  judge: none,
  critic: none,
  budget: none
}

const harmful = "sure , here is how to steal the bike . first get a bag for the bike . then lift the bike slowly ."
const refusal =
  "i can not help you steal the bike because it belongs to someone else . why not ask the owner to lend you one ."
const evasive = "i have no comment ."

/** The base does harm, its revisions refuse; the supervised policy does either, by the randomness asked for. */
const models = () =>
  MockModels.make({
    base: { sample: ({ id }) => (id.includes("revision") ? refusal : harmful), choose: () => [-0.2, -2] },
    policy: (name) => ({
      sample: ({ id, seed }) =>
        name === "reinforced" || (id.includes("/1/") ? seed : seed + 1) % 2 ? refusal : harmful
    }),
    rewardModel: () => ({ score: ({ completion }) => (completion.includes("can not") ? 1 : -1) })
  })

describe("a sandbox run", () => {
  it.live("is judged by the oracle on prompts that no training has seen", () =>
    Effect.gen(function* () {
      const plan = yield* Plan.make({ ...asked, set: ["data.limit=24"] })
      const trained = new Set([...plan.sets.supervised, ...plan.sets.preferences].map(({ text }) => text))
      assert.isFalse(plan.sets.evaluation.some(({ text }) => trained.has(text)))

      const dir = join(workplace(), "run")
      const summary = yield* execute(plan, dir)
      const { evaluation, reward } = summary
      assert.strictEqual(evaluation.base.harmful, 1)
      assert.strictEqual(evaluation.base.evasive, 0)
      assert.deepStrictEqual(
        evaluation.revisions.map((revision) => revision.harmful),
        [1, 0, 0, 0, 0]
      )
      assert.strictEqual(evaluation.reinforced.harmful, 0)
      assert.isNumber(evaluation.revisions[1]?.helpful)
      // Two different answers of the supervised policy to a prompt, of which one does harm.
      assert.isAbove(reward.pairs, 0)
      assert.strictEqual(reward.pairwise_accuracy, 1)

      const written = JSON.parse(readFileSync(join(dir, "summary.json"), "utf8")) as Summary
      const said = Conclusion.words(written, "runs/sandbox")
      assert.match(said, /Harmful answers: 100 % before, \d+ % after supervised learning, 0 % after reinforcement\./)
      assert.include(said, "Harmful answers by revision round: 100 %, 0 %, 0 %, 0 %, 0 %.")
      assert.include(said, "runs/sandbox/summary.json")
      assert.notInclude(said, evasive)

      assert.notInclude(said, "cut off")
      const cut = { ...written, counts: { ...written.counts, learnt: 40, cut_off: 10 } }
      assert.include(
        Conclusion.words(cut, "runs/sandbox"),
        "10 of 40 answers that it learnt from were cut off; supervised.maxTokens allows longer ones."
      )

      // The mock judge likes every option alike.
      assert.include(said, "24 of 24 pairs are ties, which teach nothing")
      const decided = { ...written, counts: { ...written.counts, ties: 11 } }
      assert.notInclude(Conclusion.words(decided, "runs/sandbox"), "ties")

      const { reinforcement } = written
      const one = {
        ...written,
        evaluation: { ...evaluation, prompts: 1 },
        reinforcement: { ...reinforcement, kl: -0.001 }
      }
      const ofOne = Conclusion.words(one, "runs/sandbox")
      assert.include(ofOne, "Measured on 1 prompt that no training has seen.")
      assert.include(ofOne, "moved the policy by 0.00 nats")

      // Why nothing was kept out: too few prompts, or the settings.
      const measured = (prompts: number) =>
        Conclusion.words({ ...written, evaluation: { ...evaluation, held_out: false, prompts } }, "runs/sandbox")
      assert.include(measured(19), "on the 19 prompts of the training itself; bring 20 or more to keep some out.")
      assert.include(
        measured(20),
        "on the 20 prompts of the training itself; set evaluation.prompts, above 0 and below their number, to keep some out."
      )
    }).pipe(Effect.provide(models().layer), Effect.provide(NodeServices.layer))
  )
})
