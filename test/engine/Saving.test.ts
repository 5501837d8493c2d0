import { expect, it } from "@effect/vitest"
import * as Saving from "../../src/engine/Saving.ts"

it("a state is saved at once, and then as often as takes a twentieth of the time", () => {
  let now = 0
  const saving = Saving.make(() => now)
  expect(saving.due()).toBe(true)
  const end = saving.begin()
  now += 30
  end()
  now += 599
  expect(saving.due()).toBe(false)
  now += 1
  expect(saving.due()).toBe(true)
})
