import { assert, describe, it } from "@effect/vitest"
import * as Budget from "../../../src/providers/http/Budget.ts"

describe("a budget that is used up", () => {
  it("says what is left of it without the rounding errors of a sum", () => {
    const { message } = new Budget.BudgetExceeded({
      unit: "money",
      limit: 0.002,
      spent: 0.0017459999999999999,
      needed: 0.0003
    })
    assert.include(message, "the budget of 0.002 (money) has 0.000254 left and the next call may take 0.0003")
    const tokens = new Budget.BudgetExceeded({ unit: "tokens", limit: 1_234_567, spent: 1_000_000, needed: 300_000 })
    assert.include(tokens.message, "has 234567 left and the next call may take 300000")
  })
})

describe("a budget that is no number", () => {
  it("is refused, as nothing would exceed it", () => {
    const price = { input: 3, output: 15 }
    assert.throws(() => Budget.layer({ tokens: NaN }), "tokens of a budget is NaN; it is a number of 0 or more.")
    assert.throws(() => Budget.layer({ money: { limit: NaN, price } }), "limit of a budget is NaN")
    assert.throws(
      () => Budget.layer({ money: { limit: 1, price: { ...price, output: NaN } } }),
      "price of output is NaN"
    )
    assert.doesNotThrow(() => Budget.layer({ tokens: 0, money: { limit: Infinity, price } }))
  })
})
