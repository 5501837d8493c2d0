import { assert, describe, it } from "@effect/vitest"
import * as PromptSets from "../../src/recipes/PromptSets.ts"
import * as Settings from "../../src/recipes/Settings.ts"
import * as Sample from "../../src/Sample.ts"

describe("PromptSets", () => {
  it("keeps a prompt that is there twice out of the training where it is tested on (mistake 10)", () => {
    const once = Array.from({ length: 20 }, (_, i) => Sample.prompt(`question ${i}`))
    const again = once.map((prompt) => new Sample.Prompt({ ...prompt, id: `${prompt.id}, again` }))
    const prompts = [...once, ...again]
    const settings = Settings.forPrompts({ harmful: prompts.length, benign: 0 })
    const { evaluation, heldOut, preferences, supervised } = PromptSets.fromPrompts(prompts, settings)
    assert.isTrue(heldOut)
    assert.isAbove(evaluation.length, 0)
    const tested = new Set(evaluation.map(({ text }) => text))
    assert.isFalse([...supervised, ...preferences].some(({ text }) => tested.has(text)))
    assert.isAbove(supervised.length, prompts.length - 3 * evaluation.length)
  })
})
