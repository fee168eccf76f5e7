"""What several suites share: waiting for facts, hosts in processes of their own, ledgers."""
