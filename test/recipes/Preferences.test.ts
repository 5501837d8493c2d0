import { assert, describe, it } from "@effect/vitest"
import * as Preferences from "../../src/recipes/Preferences.ts"
import * as Random from "../../src/Random.ts"
import * as Sample from "../../src/Sample.ts"
import { settings } from "./Fixture.ts"

/** Labels of pairs of answers to prompts, so many to each. */
const labels = (prompts: ReadonlyArray<Sample.Prompt>, pairs: (prompt: number) => number) =>
  prompts.flatMap((prompt, i) =>
    Array.from({ length: pairs(i) }, (_, pair) => {
      const answer = (index: number) => Sample.response({ prompt, text: `${index}`, model: "m", seed: 1, index })
      const comparison = Sample.comparison(answer(2 * pair), answer(2 * pair + 1))
      return Sample.preference({
        comparison,
        principle: "p",
        request: "Which?",
        probability: 0.5,
        byOrder: [0.5],
        model: "m"
      })
    })
  )

const prompts = Array.from({ length: 20 }, (_, i) => Sample.prompt(`question ${i}`))
const textOf = ({ comparison }: Sample.Preference) => comparison.prompt.text

/** How many labels are held out; none of them is about a prompt of the training. */
const heldOut = (all: ReadonlyArray<Sample.Preference>, holdout = 0.1) => {
  const { heldOut, training } = Preferences.split({ ...settings, reward: { ...settings.reward, holdout } }, all)
  assert.strictEqual(heldOut.length + training.length, all.length)
  assert.isAbove(training.length, 0)
  const trained = new Set(training.map(textOf))
  assert.isFalse(heldOut.some((label) => trained.has(textOf(label))))
  return heldOut.length
}

describe("labels are held out", () => {
  it("with all others of their prompt, so that nothing is tested on what was trained on (mistake 10)", () => {
    assert.strictEqual(heldOut(labels(prompts, () => 2)), 4)
    // Three labels are as near to four as whole prompts come.
    assert.strictEqual(heldOut(labels(prompts.slice(0, 13), () => 3)), 3)
    // The same question under another id.
    const twice = prompts.flatMap((prompt) => [prompt, new Sample.Prompt({ ...prompt, id: `${prompt.id} again` })])
    assert.strictEqual(heldOut(labels(twice, () => 1)), 4)
  })

  it("one by one where a prompt has one label, in a shuffled order", () => {
    const all = labels(prompts, () => 1)
    const order = Random.make(settings.seed, "held-out pairs").shuffle(all.map((_, i) => i))
    const kept = new Set(order.slice(0, 2))
    assert.deepStrictEqual(
      Preferences.split(settings, all).heldOut,
      all.filter((_, i) => kept.has(i))
    )
  })

  it("of one prompt at least and never of all", () => {
    assert.strictEqual(heldOut(labels(prompts.slice(0, 2), () => 5)), 5)
    const uneven = labels(prompts.slice(0, 2), (i) => (i === 0 ? 1 : 5))
    assert.include([1, 5], heldOut(uneven, 0.9))
    assert.strictEqual(heldOut(uneven), 1)
    assert.strictEqual(heldOut(labels(prompts.slice(0, 1), () => 5)), 0)
    assert.strictEqual(
      heldOut(
        labels(prompts, () => 1),
        0
      ),
      0
    )
  })
})
