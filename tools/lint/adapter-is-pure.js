// The law for adapters that no built-in rule can say: a Result instead of an exception, and no clock.
const pure = {
  create: (context) => ({
    ThrowStatement: (node) =>
      context.report({ node, message: 'An adapter does not throw; it returns a refusal.' }),
    NewExpression(node) {
      if (node.callee.name === 'Date' && node.arguments.length === 0) {
        context.report({ node, message: 'An adapter has no clock.' })
      }
    },
  }),
}

export default { meta: { name: 'law' }, rules: { pure } }
