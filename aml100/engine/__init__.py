"""The asyncio engine around the decision core: feeds, journal, execution, cycles."""
